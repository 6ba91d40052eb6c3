//! Network namespaces, rtnetlink, and packet sockets, for programs that configure the network of
//! containers on Linux.
//!
//! - [`Netns`] opens, identifies and enters a network namespace.
//! - [`Netlink`] lists and changes the links, addresses, routes and policy rules of one namespace,
//!   and creates macvlans and VLANs. [`LinkWatch`] reports changes to links.
//! - [`nft::Nft`] replaces, compares and deletes tables of packet filter rules.
//! - [`PacketSocket`] and [`ArpSocket`] send and receive DHCP and ARP on a link, whether or not it
//!   has an address. [`frame`] builds and parses frames.
//! - [`peer_groups`] says in which groups the other end of a Unix socket is.
//! - [`announce`] announces a link's addresses to its neighbours, [`sysctl`] reads and changes
//!   settings, and [`boottime`] reads the clock that leases are measured by.
//!
//! Everything is synchronous. The kernel handles an rtnetlink request before sendmsg(2) returns, so
//! a program needs no runtime for it. The sockets that do wait for others are non-blocking and
//! expose their descriptor, for any event loop to poll.
//!
//! A socket stays in the network namespace that it was opened in. Therefore a namespace is entered
//! only to open a socket ([`Netns::run`]), and left at once.
//!
//! An [`Error`] says what was requested and why it failed, with the kernel's own explanation:
//! "set the MTU of link 2 to 1: mtu less than device minimum (EINVAL, Invalid argument)". Methods
//! such as [`Error::is_exists`] tell the causes apart.
//!
//! ```no_run
//! use linknet::{Mac, Netlink, Netns, NewAddress, NewMacvlan};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Netlink::open()?;
//! let container = Netns::open("/run/netns/blue")?;
//! let inside = Netlink::open_in(&container)?;
//!
//! let parent = host.link("eth1")?.ok_or("eth1 does not exist")?;
//! let new = NewMacvlan {
//!     mac: Some(Mac([0x02, 0, 0, 0, 0, 0x11])),
//!     up: true,
//!     ..NewMacvlan::new("eth0", parent.index)
//! };
//! let eth0 = host.add_macvlan(&new, &container, &inside)?;
//! let address: ipnet::IpNet = "10.99.0.5/24".parse()?;
//! inside.add_address(eth0.index, &NewAddress::new(address))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `serde`: [`Mac`] is serialized as text, [`NetnsId`] as its fields.

mod announce;
mod clock;
mod error;
mod mac;
mod netlink;
mod netns;
mod packet;
mod peer;
pub mod sysctl;

pub use announce::announce;
pub use clock::boottime;
pub use error::{Error, Result, or_absent};
pub use mac::{Mac, ParseMacError};
pub use netlink::{
    Address, Dad, Link, LinkEvents, LinkWatch, Macvlan, MacvlanMode, Netlink, NewAddress,
    NewMacvlan, NewVlan, OperState, ParseModeError, Protocol, Route, RouteKind, Rule, Scope, Vlan,
    nft,
};
pub use netns::{Netns, NetnsError, NetnsId};
pub use packet::{ArpSocket, PacketSocket, Pattern, Received, Sighting, frame};
pub use peer::peer_groups;
