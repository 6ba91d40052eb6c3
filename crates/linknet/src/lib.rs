//! Network namespaces, rtnetlink, packet and UDP sockets: the only code of leasehold that talks
//! to the kernel's network stack, and the only code with `unsafe` in it.
//!
//! Everything here is synchronous. The kernel answers rtnetlink at once, so a one-shot plugin
//! needs no runtime; the sockets that do wait ([`PacketSocket`], [`UdpClient`]) are non-blocking
//! and lend their descriptor, for whatever event loop drives them.
//!
//! A socket stays in the network namespace that it was created in. So a namespace is entered
//! ([`Netns::run`]) for as long as it takes to open one, and never held.

mod announce;
mod clock;
mod error;
mod mac;
mod netlink;
mod netns;
mod packet;
pub mod sysctl;
mod udp;

pub use announce::announce;
pub use clock::boottime;
pub use error::{Error, Result};
pub use mac::{Mac, ParseMacError};
pub use netlink::{
    Address, Dad, Link, LinkEvents, LinkWatch, Macvlan, MacvlanMode, Netlink, NewAddress,
    NewMacvlan, NewVlan, OperState, ParseModeError, Protocol, Route, Rule, Scope, Vlan,
};
pub use netns::{Netns, NetnsError, NetnsId};
pub use packet::{ArpSocket, PacketSocket, Received, frame};
pub use udp::UdpClient;
