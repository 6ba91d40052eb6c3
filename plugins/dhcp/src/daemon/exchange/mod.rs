//! Talking to DHCP servers and neighbours: the driver of a client, its sockets, the search for
//! conflicts, and announcements.

mod announcement;
mod conflict;
mod driver;
mod sockets;

pub(super) use announcement::{ANNOUNCE_INTERVAL, announce};
pub(super) use conflict::find_contender;
pub(super) use driver::{flush, next_event, now};
pub(super) use sockets::Sockets;
