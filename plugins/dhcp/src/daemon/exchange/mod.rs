//! Talking to DHCP servers and neighbours: the driver of a client, its sockets, the search for
//! conflicts, and announcements.
//!
//! Everything goes through packet sockets, so a lease does not depend on what a container does to
//! its own network stack: its firewall, routes, neighbour entries and programs.

mod announcement;
mod arp;
mod conflict;
mod driver;
mod mark;
mod permits;
mod read_limit;
mod sockets;
mod wire;

pub(super) use announcement::{ANNOUNCE_INTERVAL, announce};
pub(super) use conflict::{Usage, find_contender, find_user};
pub(super) use driver::{flush, is_too_long, next_event, now};
pub(super) use permits::{Permit, Permits};
pub(super) use sockets::Sockets;
pub(super) use wire::Wire;
