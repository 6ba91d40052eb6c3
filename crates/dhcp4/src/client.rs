//! The client.

use std::net::Ipv4Addr;

use crate::config::Config;
use crate::event::{Event, Listen, StateName, Transmit};
use crate::lease::Lease;
use crate::report::{Ignored, Report};
use crate::time::Instant;

/// The client.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    report: Report,
}

impl Client {
    /// INIT.
    pub fn new(config: Config, _seed: u64, _now: Instant) -> Client {
        Client { config, report: Report::default() }
    }

    /// INIT-REBOOT: asks for an address that this client had before, from `server` if that is known.
    pub fn reboot(
        config: Config,
        seed: u64,
        _address: Ipv4Addr,
        _server: Option<Ipv4Addr>,
        now: Instant,
    ) -> Client {
        Client::new(config, seed, now)
    }

    /// Goes on with a lease bound earlier.
    pub fn resume(config: Config, seed: u64, _lease: Lease, now: Instant) -> Client {
        Client::new(config, seed, now)
    }

    /// INFORM: asks for options alone.
    pub fn inform(config: Config, seed: u64, _address: Ipv4Addr, now: Instant) -> Client {
        Client::new(config, seed, now)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the client stands.
    pub fn state(&self) -> StateName {
        StateName::Init
    }

    /// The lease in force.
    pub fn lease(&self) -> Option<&Lease> {
        None
    }

    /// Takes in a UDP payload received on port 68, and the address it came from.
    pub fn handle_packet(&mut self, _now: Instant, _payload: &[u8], _from: Ipv4Addr) -> Result<(), Ignored> {
        Ok(())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When to call [`handle_timeout`](Client::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Where replies can arrive.
    pub fn listen(&self) -> Listen {
        Listen::Nothing
    }

    /// Gives the lease back and stops.
    pub fn release(&mut self, _now: Instant) {}

    /// Takes the granted address; `false` if there is none.
    pub fn accept(&mut self, _now: Instant) -> bool {
        false
    }

    /// Refuses the granted or bound address, because somebody else uses it; `false` if there is none.
    pub fn decline(&mut self, _now: Instant) -> bool {
        false
    }

    /// The link's carrier came back.
    pub fn link_restored(&mut self, _now: Instant) {}

    /// Counts of what was sent, received and ignored.
    pub fn report(&self) -> &Report {
        &self.report
    }
}
