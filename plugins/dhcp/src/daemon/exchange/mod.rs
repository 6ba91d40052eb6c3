//! Talking to DHCP servers: the driver of a client, its sockets, and the search for conflicts.

mod conflict;
mod driver;
mod sockets;

pub(super) use conflict::find_contender;
pub(super) use driver::{flush, next_event, now};
pub(super) use sockets::Sockets;
