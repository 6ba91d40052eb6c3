//! The sockets of one exchange, in the container's netns. They are opened when the client awaits a
//! reply, and closed after the exchange, on another thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

use dhcp4::{Delivery, Listen, Transmit};
use linknet::{Mac, Netns, PacketSocket, Received, UdpClient};
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use crate::daemon::watchers::{close_on_thread, watch};

/// Ports of DHCP (RFC 2131 §4.1).
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The size of the receive buffers, in octets: room for the largest Ethernet frame. DHCP messages
/// do not exceed it.
const BUFFER_LEN: usize = 2048;

/// The sockets of one exchange.
#[derive(Debug)]
pub(crate) struct Sockets {
    netns: Netns,
    ifindex: u32,
    /// Sends and receives frames, before there is an address.
    link: Option<AsyncFd<PacketSocket>>,
    /// Sends and receives with the leased address.
    address: Option<AsyncFd<UdpClient>>,
    /// Limits how many exchanges have sockets. It is released only when they are closed.
    permit: Option<OwnedSemaphorePermit>,
}

/// A DHCP message as it was received.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The UDP payload.
    pub(super) payload: Vec<u8>,
    /// The IP source.
    pub(super) from: Ipv4Addr,
    /// The MAC of the server, or of the relay before it; unknown on an ordinary socket.
    pub(super) mac: Option<Mac>,
}

impl Sockets {
    /// Sockets for an exchange on this interface. None is open yet.
    pub(crate) fn new(netns: Netns, ifindex: u32) -> Sockets {
        Sockets {
            netns,
            ifindex,
            link: None,
            address: None,
            permit: None,
        }
    }

    /// Keeps the permit until the sockets are closed.
    pub(crate) fn with_permit(mut self, permit: OwnedSemaphorePermit) -> Sockets {
        self.permit = Some(permit);
        self
    }

    /// Opens the socket that a reply can arrive on, unless it is open. The other one stays open
    /// until the exchange is over: closing a packet socket takes an RCU grace period.
    pub(super) fn listen(&mut self, listen: Listen) -> io::Result<()> {
        match listen {
            Listen::Nothing => Ok(()),
            Listen::Link => self.link().map(drop),
            Listen::Address(_) => self.address().map(drop),
        }
    }

    /// Sends a message. `server_mac` is the MAC that the server, or the relay before it, last sent
    /// from.
    pub(super) fn send(&mut self, transmit: &Transmit, server_mac: Option<Mac>) -> io::Result<()> {
        let from = |address| SocketAddrV4::new(address, CLIENT_PORT);
        let to = |address| SocketAddrV4::new(address, SERVER_PORT);
        let payload = &transmit.payload;
        match transmit.delivery {
            Delivery::Broadcast { source } if source.is_unspecified() => self.link()?.send(
                Mac::BROADCAST,
                from(source),
                to(Ipv4Addr::BROADCAST),
                payload,
            ),
            Delivery::Broadcast { source } => {
                self.address()?
                    .send(source, to(Ipv4Addr::BROADCAST), payload)
            }
            // While the address socket is open, the kernel resolves the server's MAC again.
            Delivery::Unicast { source, server } if self.address.is_some() => {
                self.address()?.send(source, to(server), payload)
            }
            // A RELEASE must be on the wire before we return: the interface may be deleted next,
            // and the UDP path would wait for ARP and then drop it.
            Delivery::Unicast { source, server } => match server_mac {
                Some(mac) => self.link()?.send(mac, from(source), to(server), payload),
                None => self.address()?.send(source, to(server), payload),
            },
        }
    }

    /// Waits for a message on any open socket; for ever if none is open.
    ///
    /// # Errors
    /// If the interface is gone.
    pub(super) async fn receive(&self) -> io::Result<Incoming> {
        tokio::select! {
            incoming = receive_on(self.link.as_ref(), from_link) => incoming,
            incoming = receive_on(self.address.as_ref(), from_address) => incoming,
        }
    }

    fn link(&mut self) -> io::Result<&PacketSocket> {
        let index = self.ifindex;
        open_once(&mut self.link, &self.netns, || {
            PacketSocket::open(index, CLIENT_PORT)
        })
    }

    fn address(&mut self) -> io::Result<&UdpClient> {
        let index = self.ifindex;
        open_once(&mut self.address, &self.netns, || {
            UdpClient::open(index, CLIENT_PORT)
        })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            close_on_thread((link.into_inner(), self.permit.take()));
        }
    }
}

/// The socket, opened in the netns if it is not open.
fn open_once<'a, S: AsFd + AsRawFd + Send>(
    socket: &'a mut Option<AsyncFd<S>>,
    netns: &Netns,
    open: impl FnOnce() -> linknet::Result<S> + Send,
) -> io::Result<&'a S> {
    let open = match socket.take() {
        Some(open) => open,
        None => watch(netns.run(open)?.map_err(io::Error::other)?)?,
    };
    Ok(socket.insert(open).get_ref())
}

/// Waits for a message on this socket; for ever if it is not open.
async fn receive_on<S: AsRawFd>(
    socket: Option<&AsyncFd<S>>,
    read: impl Fn(&S) -> io::Result<Option<Incoming>>,
) -> io::Result<Incoming> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        let mut ready = socket.readable().await?;
        match read(socket.get_ref()) {
            Ok(Some(incoming)) => return Ok(incoming),
            Ok(None) => ready.clear_ready(),
            // The link went down. It may come up again, and the client repeats what was lost.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::NETDOWN.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
}

fn from_link(socket: &PacketSocket) -> io::Result<Option<Incoming>> {
    let mut buffer = [0; BUFFER_LEN];
    loop {
        match socket.recv(&mut buffer)? {
            Received::Nothing => return Ok(None),
            Received::Rejected(why) => tracing::debug!("frame ignored: {why}"),
            Received::Datagram(datagram) => {
                return Ok(Some(Incoming {
                    payload: datagram.payload.to_vec(),
                    from: *datagram.source.ip(),
                    mac: Some(datagram.source_mac),
                }));
            }
        }
    }
}

fn from_address(socket: &UdpClient) -> io::Result<Option<Incoming>> {
    let mut buffer = [0; BUFFER_LEN];
    let received = socket.recv(&mut buffer)?;
    Ok(received.map(|(length, from)| Incoming {
        payload: buffer[..length].to_vec(),
        from: *from.ip(),
        mac: None,
    }))
}
