//! UDP datagrams in Ethernet frames.

use std::net::SocketAddrV4;

use crate::Mac;

/// A UDP datagram and how it travels on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The station that sends it.
    pub source_mac: Mac,
    /// The station that it is for, or [`Mac::BROADCAST`].
    pub destination_mac: Mac,
    /// The sender's address and port.
    pub source: SocketAddrV4,
    /// The recipient's address and port.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a frame is not a datagram that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejected {}
