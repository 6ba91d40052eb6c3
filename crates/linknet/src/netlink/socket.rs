//! The rtnetlink socket: sending a request and receiving the answer to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer,
    NetlinkHeader,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::ack;
use crate::error::{Error, Result};
use crate::netns::Netns;

/// An rtnetlink socket. It sees and changes the network namespace that it was opened in, whichever
/// thread uses it.
///
/// The kernel is asked to check requests strictly and to explain its refusals. A dump that a
/// concurrent change made inconsistent is repeated.
pub struct Netlink {
    socket: Socket,
    /// The number of the last request. An answer with another number belongs to an earlier one.
    sequence: Cell<u32>,
    receive_buffer: RefCell<Vec<u8>>,
    /// See [`Netlink::limited`].
    max_listed: usize,
    /// Whether the kernel is still at a dump that nobody reads. It refuses another on this socket.
    has_abandoned_dump: Cell<bool>,
}

/// The usual size of a receive buffer, in octets. The kernel puts no more than this of a dump into
/// one datagram, unless a single object is longer.
pub(super) const BUFFER_LEN: usize = 32 * 1024;

/// How many times a dump is attempted before an error is returned. An attempt fails only if
/// something changes during the microseconds that it takes.
pub(super) const MAX_DUMP_ATTEMPTS: usize = 10;

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn open() -> Result<Netlink> {
        connect(NETLINK_ROUTE)
            .map(Netlink::over)
            .map_err(|error| Error::io("open an rtnetlink socket", &error))
    }

    /// Opens a socket in `netns`.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the process is out of file descriptors.
    pub fn open_in(netns: &Netns) -> Result<Netlink> {
        netns
            .run(Netlink::open)
            .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))
    }

    /// This socket, with lists of at most `max` objects: if there are more, an error
    /// ([`Error::is_too_many`]) ends the list early, before it costs much time or memory. For a
    /// namespace in which somebody else can create any number of objects.
    #[must_use]
    pub fn limited(self, max: usize) -> Netlink {
        Netlink {
            max_listed: max,
            ..self
        }
    }

    pub(super) fn max_listed(&self) -> usize {
        self.max_listed
    }

    /// Another socket in the namespace of this one, with the same limit. A socket whose dump has
    /// failed or was abandoned halfway cannot make another: the kernel goes on trying.
    pub(super) fn reopen(&self) -> Result<Netlink> {
        let cannot = |error: &io::Error| Error::io("find a socket's network namespace", error);
        let netns = Netns::of_socket(&self.socket).map_err(|error| cannot(&error))?;
        Ok(Netlink::open_in(&netns)?.limited(self.max_listed))
    }

    /// Speaks rtnetlink over a connected socket.
    pub(super) fn over(socket: Socket) -> Netlink {
        Netlink {
            socket,
            sequence: Cell::new(0),
            receive_buffer: RefCell::new(Vec::with_capacity(BUFFER_LEN)),
            max_listed: usize::MAX,
            has_abandoned_dump: Cell::new(false),
        }
    }

    /// Sends a request to change something, and receives the kernel's verdict.
    ///
    /// `what` describes the request for an error, such as "set link 2 up".
    pub(super) fn change(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        change: Change,
        body: &impl Emitable,
    ) -> Result<()> {
        self.send(what, kind, NLM_F_ACK | change.flags(), body)?;
        self.receive_verdict(what)
    }

    /// Asks for one object. `None` if the kernel says that there is no such object.
    pub(super) fn get<T>(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>> {
        let mut found = None;
        // With an acknowledgement behind the object, every answer ends in the same way.
        self.send(what, kind, NLM_F_ACK, body)?;
        let on_object = |payload: &[u8]| {
            found = Some(decode(payload));
            ControlFlow::Continue(())
        };
        match self.receive(what, on_object) {
            Ok(_) => (found.transpose()).map_err(|problem| Error::answer(what(), problem)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all objects of a kind. One that cannot be decoded is left out, with a warning in
    /// the log: it may be another program's, or of a kind that only later kernels have.
    pub(super) fn dump<T>(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>> {
        self.dump_at_most(self.max_listed, what, kind, body, decode)
    }

    /// Asks for all objects of a kind, if there are no more than `max`; `is_too_many` otherwise.
    pub(super) fn dump_at_most<T>(
        &self,
        max: usize,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>> {
        for _ in 0..MAX_DUMP_ATTEMPTS {
            match self.attempt_dump(max, what, kind, body, &decode)? {
                (found, Consistency::Consistent) => return Ok(found),
                (_, Consistency::Interrupted) => {}
            }
        }
        Err(Error::kernel(
            what(),
            Errno::EINTR,
            Some("it changed during every attempt to read it".to_owned()),
        ))
    }

    /// Asks for all objects of a kind, which a key identifies. If they change during every attempt,
    /// returns those that were in any of the lists: one that existed all the time is among them.
    pub(super) fn dump_despite_changes<T, K: Ord>(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
        key: impl Fn(&T) -> K,
    ) -> Result<Vec<T>> {
        let mut seen = BTreeMap::new();
        for _ in 0..MAX_DUMP_ATTEMPTS {
            match self.attempt_dump(self.max_listed, what, kind, body, &decode)? {
                (found, Consistency::Consistent) => return Ok(found),
                (found, Consistency::Interrupted) => {
                    seen.extend(found.into_iter().map(|object| (key(&object), object)));
                }
            }
        }
        Ok(seen.into_values().collect())
    }

    fn attempt_dump<T>(
        &self,
        max: usize,
        what: &dyn Fn() -> String,
        kind: u16,
        body: &impl Emitable,
        decode: &impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<(Vec<T>, Consistency)> {
        if self.has_abandoned_dump.get() {
            return (self.reopen()?).attempt_dump(max, what, kind, body, decode);
        }
        let (mut found, mut received) = (Vec::new(), 0);
        self.send(what, kind, NLM_F_DUMP, body)?;
        let end = self.receive(what, |payload| {
            received += 1;
            if received > max {
                return ControlFlow::Break(());
            }
            match decode(payload) {
                Ok(object) => found.push(object),
                Err(problem) => log::warn!("{}: left out an object: {problem}", what()),
            }
            ControlFlow::Continue(())
        })?;
        match end {
            ControlFlow::Continue(consistency) => Ok((found, consistency)),
            ControlFlow::Break(()) => {
                self.has_abandoned_dump.set(true);
                let why = format!("there are more than {max} of them");
                Err(Error::kernel(what(), Errno::E2BIG, Some(why)))
            }
        }
    }

    fn send(
        &self,
        what: &dyn Fn() -> String,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
    ) -> Result<()> {
        let request = self.encode(kind, flags, body);
        retry_on_eintr(|| self.socket.send(&request, 0))
            .map_err(|error| Error::io(what(), &error))?;
        Ok(())
    }

    /// The octets of the next request.
    pub(super) fn encode(&self, kind: u16, flags: u16, body: &impl Emitable) -> Vec<u8> {
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let mut header = NetlinkHeader::default();
        header.length = (header.buffer_len() + body.buffer_len()) as u32;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();

        let mut request = vec![0; header.length as usize];
        let (head, tail) = request.split_at_mut(header.buffer_len());
        header.emit(head);
        body.emit(tail);
        request
    }

    /// Receives the answer to a request that asked for an acknowledgement only.
    pub(super) fn receive_verdict(&self, what: &dyn Fn() -> String) -> Result<()> {
        self.receive(what, |_| ControlFlow::Continue(()))
            .map(|_| ())
    }

    /// Sends several requests in one datagram, and receives the kernel's verdict on all of them:
    /// the first refusal, or the acknowledgement of the request that asks for one.
    pub(super) fn transact(&self, requests: &[Request<'_, impl Emitable>]) -> Result<()> {
        let Some(Request { what, .. }) = requests.first() else {
            return Ok(());
        };
        let first = self.sequence.get().wrapping_add(1);
        let encoded = requests
            .iter()
            .map(|it| self.encode(it.kind, it.flags, &it.body));
        let datagram = encoded.collect::<Vec<_>>().concat();
        retry_on_eintr(|| self.socket.send(&datagram, 0))
            .map_err(|error| Error::io(what(), &error))?;
        let mut buffer = self.receive_buffer.borrow_mut();
        loop {
            retry_on_eintr(|| receive_datagram(&self.socket, &mut buffer))
                .map_err(|error| Error::io(what(), &error))?;
            for message in messages(&buffer) {
                let message = message.map_err(|error| Error::answer(what(), error))?;
                let position = message.sequence_number().wrapping_sub(first) as usize;
                let Some(request) = requests.get(position) else {
                    continue; // of an earlier transaction
                };
                if message.message_type() != NLMSG_ERROR {
                    continue;
                }
                match ack::parse_error(message.flags(), message.payload()) {
                    Some((errno, text)) => {
                        let text = text.or_else(|| (request.explain)(errno).map(str::to_owned));
                        return Err(Error::kernel((request.what)(), errno, text));
                    }
                    None if request.flags & NLM_F_ACK != 0 => return Ok(()),
                    None => {}
                }
            }
        }
    }

    /// Receives the whole answer to the last request, and hands each object in it to `on_object`,
    /// which can abandon the rest (`Break`): the kernel then goes on with the dump.
    fn receive(
        &self,
        what: &dyn Fn() -> String,
        mut on_object: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Consistency>> {
        let mut consistency = Consistency::Consistent;
        let mut buffer = self.receive_buffer.borrow_mut();
        loop {
            retry_on_eintr(|| receive_datagram(&self.socket, &mut buffer))
                .map_err(|error| Error::io(what(), &error))?;
            for message in messages(&buffer) {
                let message = message.map_err(|error| Error::answer(what(), error))?;
                if message.sequence_number() != self.sequence.get() {
                    continue; // the rest of an answer that was abandoned
                }
                if message.flags() & NLM_F_DUMP_INTR != 0 {
                    consistency = Consistency::Interrupted;
                }
                match message.message_type() {
                    NLMSG_NOOP => {}
                    kind @ (NLMSG_ERROR | NLMSG_DONE) => {
                        let refusal = match kind {
                            NLMSG_DONE => ack::parse_done(message.flags(), message.payload()),
                            _ => ack::parse_error(message.flags(), message.payload()),
                        };
                        return match refusal {
                            Some((errno, text)) => Err(Error::kernel(what(), errno, text)),
                            None => Ok(ControlFlow::Continue(consistency)),
                        };
                    }
                    _ => {
                        if on_object(message.payload()).is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// A request of a transaction.
pub(super) struct Request<'a, B> {
    /// Describes it for an error, such as "create table inet x".
    pub(super) what: Box<dyn Fn() -> String + 'a>,
    /// Explains a refusal that the kernel does not explain.
    pub(super) explain: fn(Errno) -> Option<&'static str>,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) body: B,
}

/// What a request does if the object exists already, or does not.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Changes or deletes an object, which must exist.
    Existing,
    /// Creates an object; EEXIST if there is one.
    Create,
    /// Creates a route ahead of existing ones to the same destination; EEXIST if it is identical to
    /// one of them.
    Prepend,
    /// Creates an object, in place of the existing one if there is one.
    Replace,
}

impl Change {
    pub(super) fn flags(self) -> u16 {
        match self {
            Change::Existing => 0,
            Change::Create => NLM_F_CREATE | NLM_F_EXCL,
            Change::Prepend => NLM_F_CREATE,
            Change::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        }
    }
}

/// Whether a dump is a snapshot, or something changed while it was taken (`NLM_F_DUMP_INTR`).
enum Consistency {
    Consistent,
    Interrupted,
}

/// A socket for requests to one part of the kernel, such as [`NETLINK_ROUTE`].
pub(super) fn connect(protocol: isize) -> io::Result<Socket> {
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A kernel that lacks one of these options (strict checking needs 4.20) still answers
    // correctly, but explains less and filters less.
    let _ = socket.set_ext_ack(true);
    let _ = socket.set_cap_ack(true);
    let _ = socket.set_netlink_get_strict_chk(true);
    Ok(socket)
}

/// Receives one datagram whole, however long it is: it can only be read once.
pub(super) fn receive_datagram(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    let length = socket.recv(buffer, libc::MSG_PEEK | libc::MSG_TRUNC)?;
    buffer.clear();
    buffer.reserve(length);
    socket.recv(buffer, 0).map(|_| ())
}

/// The messages of one datagram.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, DecodeError>> {
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

fn retry_on_eintr<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            end => return end,
        }
    }
}
