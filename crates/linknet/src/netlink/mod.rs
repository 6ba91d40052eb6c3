//! rtnetlink(7): the links, addresses, routes and rules of one network namespace.
//!
//! The builders of the crate `rtnetlink` make the messages, as values; a message that it has no
//! builder for is made by hand. The socket is a blocking one, because the kernel handles a request
//! inside sendmsg(2): there is nothing to await.

mod ack;
mod address;
mod attribute;
mod create;
mod delete_nowait;
mod events;
mod ip;
mod link;
mod macvlan;
mod nexthop;
pub mod nft;
mod nsid;
mod route;
mod rule;
mod socket;
#[cfg(test)]
mod tests;
mod vlan;

pub use address::{Address, Dad, NewAddress};
pub use events::{LinkEvents, LinkWatch};
pub use ip::{Protocol, Scope};
pub use link::{Link, OperState};
pub use macvlan::{Macvlan, MacvlanMode, NewMacvlan, ParseModeError};
pub use route::{Route, RouteKind};
pub use rule::Rule;
pub use socket::Netlink;
pub use vlan::{NewVlan, Vlan};
