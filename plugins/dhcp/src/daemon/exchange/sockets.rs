//! The sockets of one exchange, in the container's netns. They are opened when the client awaits a
//! reply, and closed after the exchange, on another thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp4::{Awaited, Delivery, Transmit};
use linknet::{Mac, Netns, PacketSocket, Pattern, Received};
use tokio::io::unix::AsyncFd;

use super::arp;
use super::mark::mark;
use super::permits::Permit;
use super::read_limit::ReadLimit;
use super::wire::Wire;
use crate::daemon::watchers::{close_on_thread, watch};

/// Ports of DHCP (RFC 2131 §4.1).
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The size of the receive buffer, in octets: room for a jumbo frame. No reply comes near it.
const BUFFER_LEN: usize = 9300;

/// The sockets of one exchange.
#[derive(Debug)]
pub(crate) struct Sockets<'n> {
    netns: &'n Netns,
    ifindex: u32,
    socket: Option<AsyncFd<PacketSocket>>,
    /// The reply that the socket lets through.
    awaited: Option<Awaited>,
    /// Limits how many exchanges have sockets. It is released only when they are closed.
    permit: Option<Permit>,
    limit: ReadLimit,
}

/// A DHCP message as it was received.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The UDP payload.
    pub(super) payload: Vec<u8>,
    /// The IP source.
    pub(super) from: Ipv4Addr,
    /// The MAC of the server, or of the relay before it.
    pub(super) mac: Mac,
}

impl<'n> Sockets<'n> {
    /// Sockets for an exchange on this interface. None is open yet.
    pub(crate) fn new(netns: &'n Netns, ifindex: u32) -> Sockets<'n> {
        Sockets {
            netns,
            ifindex,
            socket: None,
            awaited: None,
            permit: None,
            limit: ReadLimit::default(),
        }
    }

    /// The netns that they are in.
    pub(crate) fn netns(&self) -> &'n Netns {
        self.netns
    }

    /// Keeps the permit until the sockets are closed.
    pub(crate) fn with_permit(mut self, permit: Permit) -> Sockets<'n> {
        self.permit = Some(permit);
        self
    }

    /// Receives this reply from now on, and whatever is in part like it. If the client awaits none,
    /// the socket stays as it is until the exchange is over: closing it takes an RCU grace period.
    pub(super) fn listen(&mut self, awaited: Option<Awaited>) -> io::Result<()> {
        let Some(Awaited { xid, chaddr }) = awaited.filter(|_| awaited != self.awaited) else {
            return Ok(());
        };
        let pattern = |offset, octets| Pattern { offset, octets };
        let any_of = [
            pattern(Awaited::XID_OFFSET, &xid),
            pattern(Awaited::CHADDR_OFFSET, &chaddr),
        ];
        match &self.socket {
            Some(open) => open.get_ref().accept_only(&any_of)?,
            None => drop(self.open(&any_of)?),
        }
        self.awaited = awaited;
        Ok(())
    }

    /// Sends a message, without waiting for anything. `server_mac` is the MAC that the server, or
    /// the relay before it, last sent from. If that is unknown, all stations get the frame, and the
    /// server knows its address in it.
    pub(super) fn send(&mut self, transmit: &Transmit, server_mac: Option<Mac>) -> io::Result<()> {
        let (mac, source, destination) = match transmit.delivery {
            Delivery::Broadcast { source } => (None, source, Ipv4Addr::BROADCAST),
            Delivery::Unicast { source, server } => (server_mac, source, server),
        };
        self.open(&[])?.send(
            mac.unwrap_or(Mac::BROADCAST),
            SocketAddrV4::new(source, CLIENT_PORT),
            SocketAddrV4::new(destination, SERVER_PORT),
            &transmit.payload,
        )
    }

    /// Asks for the MAC of an address by ARP, from the leased address. `None` if nobody answers.
    ///
    /// # Errors
    /// If the interface is gone.
    pub(super) async fn look_up(
        &self,
        leased: Ipv4Addr,
        address: Ipv4Addr,
    ) -> io::Result<Option<Mac>> {
        arp::look_up(self.netns, self.ifindex, leased, address).await
    }

    /// Waits for a message; for ever if no socket is open. `wire` counts the frames that are none.
    ///
    /// # Errors
    /// If the interface is gone.
    pub(super) async fn receive(&self, wire: &Wire) -> io::Result<Incoming> {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        loop {
            self.limit.wait().await;
            let mut ready = socket.readable().await?;
            match read(socket.get_ref(), &self.limit, wire) {
                Ok(Read::Message(incoming)) => return Ok(incoming),
                Ok(Read::Nothing) => ready.clear_ready(),
                Ok(Read::TooMuch) => {}
                // The link went down. It may come up again, and the client repeats what was lost.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NETDOWN.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the socket, because the interface has another MAC. The next use opens another one.
    pub(crate) fn close(&mut self) {
        self.awaited = None;
        if let Some(socket) = self.socket.take() {
            close_on_thread(socket.into_inner());
        }
    }

    /// The socket, opened in the netns if it is not open, for what has one of these patterns.
    fn open(&mut self, any_of: &[Pattern<'_>]) -> io::Result<&PacketSocket> {
        let open = match self.socket.take() {
            Some(open) => open,
            None => {
                let opened = self
                    .netns
                    .run(|| PacketSocket::open_for(self.ifindex, CLIENT_PORT, any_of))?;
                let opened = opened.map_err(io::Error::other)?;
                mark(|mark| opened.set_mark(mark));
                watch(opened)?
            }
        };
        Ok(self.socket.insert(open).get_ref())
    }
}

impl Drop for Sockets<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            close_on_thread((socket.into_inner(), self.permit.take()));
        }
    }
}

/// What was read from a socket.
enum Read {
    Message(Incoming),
    /// There is nothing to read yet.
    Nothing,
    /// Only frames that are no messages, and there may be more of them.
    TooMuch,
}

/// Reads until there is a message.
fn read(socket: &PacketSocket, limit: &ReadLimit, wire: &Wire) -> io::Result<Read> {
    let mut buffer = [0; BUFFER_LEN];
    loop {
        let received = socket.recv(&mut buffer)?;
        if received == Received::Nothing {
            return Ok(Read::Nothing);
        }
        let may_read_more = limit.note_frame();
        match received {
            Received::Datagram(datagram) => {
                return Ok(Read::Message(Incoming {
                    payload: datagram.payload.to_vec(),
                    from: *datagram.source.ip(),
                    mac: datagram.source_mac,
                }));
            }
            Received::Rejected(why) => wire.note_rejected(why),
            Received::Nothing => {}
        }
        if !may_read_more {
            return Ok(Read::TooMuch);
        }
    }
}
