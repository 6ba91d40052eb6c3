//! Packet sockets (packet(7)): DHCP and ARP on a link that has no address yet.

mod arp;
mod filter;
pub mod frame;
mod link_layer;
mod socket;

pub use arp::ArpSocket;
pub use socket::{PacketSocket, Received};
