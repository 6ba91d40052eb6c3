//! Packet sockets (packet(7)): DHCP and ARP on a link, without its addresses, routes, neighbours
//! and firewall.

mod arp;
mod filter;
pub mod frame;
mod link_layer;
mod socket;

pub use arp::{ArpSocket, Sighting};
pub use filter::Pattern;
pub use socket::{PacketSocket, Received};
