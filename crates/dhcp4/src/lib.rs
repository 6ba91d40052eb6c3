//! A DHCPv4 client (RFC 2131) as a value: no clock, no socket, no randomness of its own.
//!
//! A driver owns the I/O and turns the crank:
//!
//! ```no_run
//! # use dhcp4::{Client, Config, Instant};
//! # fn boottime() -> Instant { Instant::BOOT }
//! # fn send(_: dhcp4::Transmit) {}
//! # fn act_on(_: dhcp4::Event) {}
//! # fn wait(_: dhcp4::Listen, _until: Option<Instant>) -> Option<(Vec<u8>, std::net::Ipv4Addr)> { None }
//! let mut client = Client::new(Config::new([2, 0, 0, 0, 0, 1]), 0x5eed, boottime());
//! loop {
//!     while let Some(event) = client.poll_event() {
//!         act_on(event);
//!     }
//!     while let Some(transmit) = client.poll_transmit() {
//!         send(transmit);
//!     }
//!     match wait(client.listen(), client.poll_timeout()) {
//!         Some((payload, from)) => match client.handle_packet(boottime(), &payload, from) {
//!             Ok(()) => {}
//!             Err(ignored) => eprintln!("{ignored}"),
//!         },
//!         None => client.handle_timeout(boottime()),
//!     }
//! }
//! ```

pub mod client_id;
pub mod hex;
pub mod names;

mod client;
mod config;
mod event;
mod hostname;
mod lease;
mod options;
mod report;
mod rng;
mod routes;
mod time;
mod wire;

pub use client::Client;
pub use config::{Config, DEFAULT_REQUEST, Retry, Servers};
pub use event::{Delivery, Event, Listen, Nak, StateName, Transmit, Why};
pub use hostname::{fqdn, hostname};
pub use lease::Lease;
pub use options::{Options, RawOption};
pub use report::{Ignored, Kind, Reason, Report, Sent};
pub use routes::Route;
pub use time::Instant;
