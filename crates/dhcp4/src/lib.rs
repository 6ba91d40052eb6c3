#![doc = include_str!("../README.md")]

pub mod client_id;
pub mod hex;

mod address;
mod client;
mod config;
mod event;
mod hostname;
mod lease;
mod options;
mod report;
mod state_name;
mod time;
mod transmit;
mod wire;

pub use client::Client;
pub use config::{Config, DEFAULT_REQUEST, Retry, Servers};
pub use event::{Event, LossReason, Nak};
pub use hostname::{fqdn, hostname};
pub use lease::{Assumption, Lease};
pub use options::{OptionList, Options, RawOption, Route, names};
pub use report::{ExcludedServer, IgnoreReason, Ignored, PacketKind, Report};
pub use state_name::StateName;
pub use time::Instant;
pub use transmit::{Awaited, Delivery, OutgoingKind, Transmit};
