//! The sockets of one exchange, in the container's netns: opened when the client listens for
//! something, closed when the exchange is over, off the event loop.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp4::{Delivery, Listen, Transmit};
use linknet::{Mac, Netns, PacketSocket, Received, UdpClient};
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::watch::watch;

/// Ports of DHCP (RFC 2131 §4.1).
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Room for the largest frame of an Ethernet; nobody sends DHCP in larger ones.
const BUFFER: usize = 2048;

/// The sockets of one exchange.
#[derive(Debug)]
pub(crate) struct Sockets {
    netns: Netns,
    ifindex: u32,
    /// Hears and speaks without an address.
    link: Option<AsyncFd<PacketSocket>>,
    /// Hears and speaks from the leased address.
    address: Option<AsyncFd<UdpClient>>,
    /// The right to have them, where it is limited: given back when they are closed, and not
    /// before.
    admitted: Option<OwnedSemaphorePermit>,
}

/// A DHCP message that arrived, not yet looked into.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// UDP payload.
    pub(crate) payload: Vec<u8>,
    /// IP source.
    pub(crate) from: Ipv4Addr,
    /// Link-layer source: the server, or the relay before it. Unknown to an ordinary socket.
    pub(crate) mac: Option<Mac>,
}

impl Sockets {
    /// No socket yet, for the interface of this index in this netns.
    pub(crate) fn new(netns: Netns, ifindex: u32) -> Sockets {
        Sockets {
            netns,
            ifindex,
            link: None,
            address: None,
            admitted: None,
        }
    }

    /// The same, with a right that is given back when they are closed.
    pub(crate) fn admitted(netns: Netns, ifindex: u32, permit: OwnedSemaphorePermit) -> Sockets {
        let mut sockets = Sockets::new(netns, ifindex);
        sockets.admitted = Some(permit);
        sockets
    }

    /// Opens the socket on which a reply can arrive, unless it is open. The other one stays until
    /// the exchange is over: closing a packet socket takes an RCU grace period.
    pub(crate) fn listen(&mut self, listen: Listen) -> io::Result<()> {
        match listen {
            Listen::Nothing => Ok(()),
            Listen::Link => self.link().map(drop),
            Listen::Address(_) => self.address().map(drop),
        }
    }

    /// Sends a message. `server_mac` is where the server, or the relay before it, was last heard.
    pub(crate) fn send(&mut self, transmit: &Transmit, server_mac: Option<Mac>) -> io::Result<()> {
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
            // While the address socket is open the kernel finds the way, and asks for the neighbour
            // anew.
            Delivery::Unicast { source, server } if self.address.is_some() => {
                self.address()?.send(source, to(server), payload)
            }
            // A farewell must be on the wire when this returns, since the interface may go right
            // after: the kernel would first ask for the neighbour, and send from an address that is
            // there no more.
            Delivery::Unicast { source, server } => match server_mac {
                Some(mac) => self.link()?.send(mac, from(source), to(server), payload),
                None => self.address()?.send(source, to(server), payload),
            },
        }
    }

    /// Waits for a message on whichever socket is open; for ever when none is.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(crate) async fn receive(&self) -> io::Result<Arrived> {
        tokio::select! {
            arrived = receive_on(self.link.as_ref(), from_link) => arrived,
            arrived = receive_on(self.address.as_ref(), from_address) => arrived,
        }
    }

    fn link(&mut self) -> io::Result<&PacketSocket> {
        if self.link.is_none() {
            let index = self.ifindex;
            let socket = self
                .netns
                .run(|| PacketSocket::open(index, CLIENT_PORT))?
                .map_err(io::Error::other)?;
            self.link = Some(watch(socket)?);
        }
        self.link
            .as_ref()
            .map(AsyncFd::get_ref)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn address(&mut self) -> io::Result<&UdpClient> {
        if self.address.is_none() {
            let index = self.ifindex;
            let socket = self
                .netns
                .run(|| UdpClient::open(index, CLIENT_PORT))?
                .map_err(io::Error::other)?;
            self.address = Some(watch(socket)?);
        }
        self.address
            .as_ref()
            .map(AsyncFd::get_ref)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            // Milliseconds in which the event loop would serve nobody.
            let socket = link.into_inner();
            let admitted = self.admitted.take();
            spawn_blocking(move || {
                drop(socket);
                drop(admitted);
            });
        }
    }
}

async fn receive_on<S: std::os::fd::AsRawFd>(
    socket: Option<&AsyncFd<S>>,
    read: impl Fn(&S) -> io::Result<Option<Arrived>>,
) -> io::Result<Arrived> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        let mut ready = socket.readable().await?;
        match read(socket.get_ref()) {
            Ok(Some(arrived)) => return Ok(arrived),
            Ok(None) => ready.clear_ready(),
            // The link went down: it may come back, and nothing was lost that is not sent again.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::NETDOWN.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
}

fn from_link(socket: &PacketSocket) -> io::Result<Option<Arrived>> {
    let mut buffer = [0; BUFFER];
    loop {
        match socket.recv(&mut buffer)? {
            Received::Nothing => return Ok(None),
            Received::Rejected(why) => tracing::debug!(?why, "frame ignored"),
            Received::Datagram(datagram) => {
                return Ok(Some(Arrived {
                    payload: datagram.payload.to_vec(),
                    from: *datagram.source.ip(),
                    mac: Some(datagram.source_mac),
                }));
            }
        }
    }
}

fn from_address(socket: &UdpClient) -> io::Result<Option<Arrived>> {
    let mut buffer = [0; BUFFER];
    let received = socket.recv(&mut buffer)?;
    Ok(received.map(|(length, from)| Arrived {
        payload: buffer[..length].to_vec(),
        from: *from.ip(),
        mac: None,
    }))
}
