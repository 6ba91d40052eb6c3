//! rtnetlink: links, addresses and routes of one network namespace.

mod ack;
mod address;
mod delete_nowait;
mod events;
mod link;
mod macvlan;
mod nsid;
mod route;
mod rule;
#[cfg(test)]
mod tests;
mod virt;
mod vlan;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer, NetlinkHeader, Parseable,
};
use netlink_packet_route::AddressFamily;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use crate::{Error, Netns, Result};

pub use address::{Address, Dad, NewAddress};
pub use events::{LinkEvents, LinkWatch};
pub use link::{Link, OperState};
pub use macvlan::{Macvlan, MacvlanMode, NewMacvlan, ParseModeError};
pub use route::Route;
pub use rule::Rule;
pub use vlan::{NewVlan, Vlan};

/// An rtnetlink socket: it sees and changes the network namespace that it was opened in, from
/// whichever thread it is used.
///
/// The kernel is asked to check requests strictly and to explain its refusals; a dump that was
/// disturbed by a change is taken again.
pub struct Netlink {
    socket: Socket,
    /// The number of the last request, by which answers are told from late ones.
    sequence: Cell<u32>,
    /// Where answers are received.
    buffer: RefCell<Vec<u8>>,
}

/// Room for one datagram from the kernel, which sends at most this much of a dump at a time to
/// whoever has the room.
const BUFFER: usize = 32 * 1024;

/// How often a dump is taken that the kernel says was inconsistent. Each time means that links,
/// addresses or routes changed within those microseconds.
const DUMP_TRIES: usize = 10;

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn open() -> Result<Netlink> {
        connect().map_err(|error| Error::io("open an rtnetlink socket", &error))
    }

    /// Opens a socket in `netns`.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the process has no descriptor left.
    pub fn open_in(netns: &Netns) -> Result<Netlink> {
        netns
            .run(Netlink::open)
            .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))
    }

    fn over(socket: Socket) -> Netlink {
        Netlink {
            socket,
            sequence: Cell::new(0),
            buffer: RefCell::new(Vec::with_capacity(BUFFER)),
        }
    }

    /// Sends a request to change something, and waits for the kernel's verdict.
    fn change(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        how: Change,
        body: &impl Emitable,
    ) -> Result<()> {
        self.send(what, kind, NLM_F_ACK | how.flags(), body)?;
        self.receive(what, |_| Ok(())).map(|_| ())
    }

    /// Asks for one object. `None` if the kernel says that there is no such thing.
    fn get<M: Parseable<[u8]>>(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
    ) -> Result<Option<M>> {
        let mut found = None;
        // With an acknowledgement after the answer, every request ends in the same way.
        self.send(what, kind, NLM_F_ACK, body)?;
        let end = self.receive(what, |payload| {
            found = Some(M::parse(payload)?);
            Ok(())
        });
        match end {
            Ok(_) => Ok(found),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all objects of a kind.
    fn dump<M: Parseable<[u8]>>(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
    ) -> Result<Vec<M>> {
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            self.send(what, kind, NLM_F_DUMP, body)?;
            let end = self.receive(what, |payload| {
                found.push(M::parse(payload)?);
                Ok(())
            })?;
            match end {
                Consistency::Whole => return Ok(found),
                Consistency::Interrupted => {}
            }
        }
        Err(Error::kernel(
            what(),
            Errno::EINTR,
            Some("changed each time it was read".to_owned()),
        ))
    }

    fn send(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
    ) -> Result<()> {
        let message = self.encode(kind, flags, body);
        uninterrupted(|| self.socket.send(&message, 0))
            .map_err(|error| Error::io(what(), &error))?;
        Ok(())
    }

    /// The next request, as it is sent.
    fn encode(&self, kind: u16, flags: u16, body: &impl Emitable) -> Vec<u8> {
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let mut header = NetlinkHeader::default();
        header.length = (header.buffer_len() + body.buffer_len()) as u32;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();

        let mut message = vec![0; header.length as usize];
        let (head, tail) = message.split_at_mut(header.buffer_len());
        header.emit(head);
        body.emit(tail);
        message
    }

    /// Receives the answer to the last request up to its end, and hands each object of it to
    /// `take`.
    fn receive(
        &self,
        what: &dyn Fn() -> String,
        mut take: impl FnMut(&[u8]) -> Result<(), netlink_packet_core::DecodeError>,
    ) -> Result<Consistency> {
        let mut consistency = Consistency::Whole;
        let mut problem = None;
        let mut buffer = self.buffer.borrow_mut();
        loop {
            buffer.clear();
            let length = uninterrupted(|| self.socket.recv(&mut *buffer, libc::MSG_TRUNC))
                .map_err(|error| Error::io(what(), &error))?;
            if length > buffer.len() {
                return Err(Error::answer(
                    what(),
                    format_args!("it is too long ({length} octets)"),
                ));
            }
            for message in messages(&buffer) {
                let message = message.map_err(|error| Error::answer(what(), error))?;
                if message.sequence_number() != self.sequence.get() {
                    continue; // what is left of an answer that was given up
                }
                if message.flags() & NLM_F_DUMP_INTR != 0 {
                    consistency = Consistency::Interrupted;
                }
                match message.message_type() {
                    NLMSG_NOOP => {}
                    kind @ (NLMSG_ERROR | NLMSG_DONE) => {
                        let verdict = match kind {
                            NLMSG_DONE => ack::parse_done(message.flags(), message.payload()),
                            _ => ack::parse_error(message.flags(), message.payload()),
                        };
                        return match (verdict, problem) {
                            (Some((errno, text)), _) => Err(Error::kernel(what(), errno, text)),
                            (None, Some(problem)) => Err(Error::answer(what(), problem)),
                            (None, None) => Ok(consistency),
                        };
                    }
                    // One bad object does not end the answer, whose rest must still be read.
                    _ => problem = take(message.payload()).err().or(problem),
                }
            }
        }
    }
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What a change does about an object that is there, or not there, already.
#[derive(Clone, Copy)]
enum Change {
    /// There must be one: it is set or deleted.
    Existing,
    /// There must be none: EEXIST otherwise.
    Create,
    /// There may be one, which stays, unless it is the very same: EEXIST then.
    Prepend,
    /// There may be one, which gives way.
    Replace,
}

impl Change {
    fn flags(self) -> u16 {
        match self {
            Change::Existing => 0,
            Change::Create => NLM_F_CREATE | NLM_F_EXCL,
            Change::Prepend => NLM_F_CREATE,
            Change::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        }
    }
}

/// Whether a dump shows one state of affairs (`NLM_F_DUMP_INTR`).
enum Consistency {
    Whole,
    Interrupted,
}

/// How far an address or a destination reaches (`rtm_scope`, `ifa_scope`: rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere: addresses, and routes through a gateway.
    pub const UNIVERSE: Scope = Scope(0);
    /// Within one's own site.
    pub const SITE: Scope = Scope(200);
    /// On the link: routes without a gateway.
    pub const LINK: Scope = Scope(253);
    /// On this host only.
    pub const HOST: Scope = Scope(254);
}

/// Who put an address or a route there (`rtm_protocol` of rtnetlink(7), `IFA_PROTO`). The kernel
/// only passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// The kernel itself: a route that came with an address.
    pub const KERNEL: Protocol = Protocol(2);
    /// Whoever configured the machine at boot; what ip-route(8) says when not told otherwise.
    pub const BOOT: Protocol = Protocol(3);
    /// An administrator.
    pub const STATIC: Protocol = Protocol(4);
    /// A DHCP client.
    pub const DHCP: Protocol = Protocol(16);
}

fn connect() -> io::Result<Netlink> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // All three are refinements: a kernel without one (strict checking came with 4.20) is as
    // right, only less clear, or slower.
    let _ = socket.set_ext_ack(true);
    let _ = socket.set_cap_ack(true);
    let _ = socket.set_netlink_get_strict_chk(true);
    Ok(Netlink::over(socket))
}

/// The messages of one datagram.
fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, netlink_packet_core::DecodeError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(datagram);
        let aligned = message.as_ref().map_or(usize::MAX, |message| {
            message.length().next_multiple_of(4) as usize
        });
        datagram = datagram.get(aligned..).unwrap_or_default();
        Some(message)
    })
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            end => return end,
        }
    }
}
