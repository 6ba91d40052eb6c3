//! A scriptable DHCP server: correct and immediate by default, wrong on demand.
//!
//! ```ignore
//! let settings = Settings { lease_time: Some(Duration::from_secs(4)), ..Settings::default() };
//! let server = DhcpServer::start(&lan.lan, settings)?;
//! server.when(MessageType::Discover).times(2).then(Reaction::silence());
//! server.when(MessageType::Request).once().then(Reaction::answer().wrong_xid());
//! let result = network.add(&attachment)?;
//! network.del(&attachment)?;
//! let release = server.wait_for(MessageType::Release, 1, Duration::from_secs(2))?;
//! assert_eq!(*release.source.ip(), address);
//! assert!(server.leases().is_empty());
//! ```
//!
//! It runs on a thread of the test and listens on a packet socket, so that it sees every frame with
//! its addresses, also those that a UDP socket would never be given, and can send any. Several may
//! run on one LAN.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use dhcproto::v4::{Message, MessageType};

use crate::{Lan, Node, Result, deadline};

mod packet;
mod pool;
mod reaction;
mod service;
mod socket;

pub use packet::Packet;
pub use pool::{Lease, Settings, Strangers};
pub use reaction::Reaction;

use pool::Pool;
use reaction::Rule;
use service::Service;
use socket::Socket;

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct DhcpServer {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    /// The other end is held by the service's thread, which stops when this one closes.
    _alive: UnixStream,
}

impl DhcpServer {
    /// Starts a server on `node`'s link `eth0`. It hears everything that is sent after this has
    /// returned.
    ///
    /// # Errors
    /// When the node has no such link or packet sockets are not allowed there.
    pub fn start(node: &Node, settings: Settings) -> Result<DhcpServer> {
        DhcpServer::start_on(node, Lan::SERVER_LINK, settings)
    }

    /// Like [`DhcpServer::start`], on another link of the node.
    ///
    /// # Errors
    /// As [`DhcpServer::start`].
    pub fn start_on(node: &Node, link: &str, settings: Settings) -> Result<DhcpServer> {
        let socket = Arc::new(node.run(|| Socket::open(link))??);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                pool: Pool::new(settings),
                rules: vec![],
                received: vec![],
                sent: vec![],
            }),
            changed: Condvar::new(),
        });
        let (alive, service_end) = UnixStream::pair().context("make a socket pair")?;
        let service = Service::new(Arc::clone(&shared), Arc::clone(&socket), service_end);
        thread::Builder::new()
            .name("dhcp-server".to_owned())
            .spawn(|| service.run())
            .context("start a thread")?;
        Ok(DhcpServer {
            shared,
            socket,
            _alive: alive,
        })
    }

    /// Changes the settings from the next message on; leases that were given stay.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().pool.settings);
    }

    /// Begins a rule: what happens on messages of this type instead of the usual answer.
    /// Of several rules that fit, the one made first acts, until it is used up.
    #[must_use]
    pub fn when(&self, kind: MessageType) -> When<'_> {
        When {
            server: self,
            kind,
            times: None,
            from: None,
        }
    }

    /// Removes all rules.
    pub fn behave(&self) {
        self.shared.lock().rules.clear();
    }

    /// Forgets every lease and offer, as a server does whose disk was replaced.
    pub fn forget(&self) {
        self.shared.lock().pool.forget();
    }

    /// The leases that are acknowledged and have not expired or been given back, by address.
    pub fn leases(&self) -> Vec<Lease> {
        self.shared.lock().pool.leases(Instant::now())
    }

    /// Everything heard on port 67, in order.
    pub fn received(&self) -> Vec<Packet> {
        self.shared.lock().received.clone()
    }

    /// Everything heard on port 67 since the last call, in order. The server forgets it, and what
    /// it sent: it would otherwise need ever more memory in a long run.
    pub fn take_received(&self) -> Vec<Packet> {
        let mut state = self.shared.lock();
        state.sent.clear();
        std::mem::take(&mut state.received)
    }

    /// Everything heard of this type, in order.
    pub fn received_of(&self, kind: MessageType) -> Vec<Packet> {
        self.shared.lock().of(kind).cloned().collect()
    }

    /// Everything sent, in order.
    pub fn sent(&self) -> Vec<Packet> {
        self.shared.lock().sent.clone()
    }

    /// Waits for the `nth` (from 1) message of this type since the start; returns at once if it was
    /// heard before.
    ///
    /// # Errors
    /// When it does not come within the time that an idle machine needs (see
    /// [`deadline`](crate::deadline())); the error shows the whole exchange.
    pub fn wait_for(&self, kind: MessageType, nth: usize, within: Duration) -> Result<Packet> {
        let within = deadline(within);
        let waiting = |state: &mut State| state.of(kind).nth(nth - 1).is_none();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), within, waiting)
            .expect("the server's thread has not panicked");
        let packet = state.of(kind).nth(nth - 1).cloned();
        packet.with_context(|| {
            format!(
                "no {kind:?} number {nth} within {within:?}\n{}",
                state.transcript()
            )
        })
    }

    /// Sends an unsolicited message.
    ///
    /// # Errors
    /// When it cannot be encoded or sent.
    pub fn send(&self, ethernet: [u8; 6], address: Ipv4Addr, message: &Message) -> Result {
        let mut state = self.shared.lock();
        let frame = packet::frame(
            (self.socket.mac(), ethernet),
            (state.pool.settings.address, address),
            &packet::encode(message)?,
        )?;
        state.transmit(&self.socket, frame)
    }

    /// The exchange so far, a line for each message, to be read.
    pub fn transcript(&self) -> String {
        self.shared.lock().transcript()
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "what the DHCP server heard and said:\n{}",
                self.transcript()
            );
        }
    }
}

/// An unfinished rule. It takes effect with [`When::then`].
#[derive(Debug)]
pub struct When<'a> {
    server: &'a DhcpServer,
    kind: MessageType,
    times: Option<usize>,
    from: Option<[u8; 6]>,
}

impl When<'_> {
    /// For the next `times` messages only. Otherwise for all.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        When {
            times: Some(times),
            ..self
        }
    }

    /// For the next message only.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// For messages from this hardware address only.
    #[must_use]
    pub fn from(self, mac: [u8; 6]) -> Self {
        When {
            from: Some(mac),
            ..self
        }
    }

    /// What to do.
    pub fn then(self, reaction: Reaction) {
        let When {
            server,
            kind,
            times,
            from,
        } = self;
        server.shared.lock().rules.push(Rule {
            kind,
            times,
            from,
            reaction,
        });
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified of every message heard.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("the server's thread has not panicked")
    }
}

#[derive(Debug)]
struct State {
    pool: Pool,
    rules: Vec<Rule>,
    received: Vec<Packet>,
    sent: Vec<Packet>,
}

impl State {
    fn of(&self, kind: MessageType) -> impl Iterator<Item = &Packet> {
        self.received
            .iter()
            .filter(move |packet| packet.kind() == Some(kind))
    }

    /// The reaction of the first rule for this packet that is not used up.
    fn react(&mut self, packet: &Packet) -> Option<Reaction> {
        let rule = self.rules.iter_mut().find(|rule| rule.applies_to(packet))?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.reaction.clone())
    }

    fn transmit(&mut self, socket: &Socket, frame: Vec<u8>) -> Result {
        // Dated before it is sent, so that what it causes is never older.
        let packet = Packet::parse(frame.clone());
        socket.send(&frame)?;
        self.sent.extend(packet);
        Ok(())
    }

    fn transcript(&self) -> String {
        let mut packets: Vec<_> = self.received.iter().chain(&self.sent).collect();
        packets.sort_by_key(|packet| packet.at);
        let mut text = String::new();
        if let Some(first) = packets.first() {
            for packet in &packets {
                writeln!(text, "{:10.3?}  {packet}", packet.at - first.at)
                    .expect("a String takes everything");
            }
        }
        text
    }
}
