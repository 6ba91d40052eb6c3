//! DHCP options: raw, and as the rest of the program wants them.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::routes::Route;

/// One option as it is on the wire, its fragments joined (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawOption {
    /// The option's code.
    pub code: u8,
    /// Its value, without code and length. Written as hexadecimal digits where it is serialised.
    #[serde(with = "crate::hex")]
    pub data: Vec<u8>,
}

impl RawOption {
    /// An option with this code and value.
    pub fn new(code: u8, data: impl Into<Vec<u8>>) -> RawOption {
        RawOption {
            code,
            data: data.into(),
        }
    }
}

/// What a server said beside the address and its times. What was absent, malformed or absurd is
/// absent here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)] // a lease stored by an earlier version lacks what that did not know
pub struct Options {
    /// Option 3, in the server's order of preference.
    pub routers: Vec<Ipv4Addr>,
    /// Option 33.
    pub static_routes: Vec<Route>,
    /// Option 121 (RFC 3442), or 249, its Microsoft twin.
    pub classless_routes: Vec<Route>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15: a well-formed domain name without the final dot.
    pub domain: Option<String>,
    /// Option 119 (RFC 3397): well-formed domain names without the final dot.
    pub search: Vec<String>,
    /// Option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 26, at least 576.
    pub mtu: Option<u16>,
    /// Option 28.
    pub broadcast: Option<Ipv4Addr>,
    /// Option 12: a well-formed host name.
    pub hostname: Option<String>,
    /// Option 108 (RFC 8925): the network would rather have IPv6 alone, for at least this long.
    pub ipv6_only_wait: Option<Duration>,
    /// Every option of the message, these and all others, in the order in which they came.
    pub raw: Vec<RawOption>,
}

/// Whether this can be the address of a host: not 0.0.0.0/8, loopback, multicast or broadcast.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    address.octets()[0] != 0
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast()
}

/// The codes that this crate speaks of (RFC 2132 and where noted in [`Options`]).
pub(crate) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTERS: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const DOMAIN_NAME: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const BROADCAST: u8 = 28;
    pub(crate) const STATIC_ROUTES: u8 = 33;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const PARAMETER_REQUEST_LIST: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_MESSAGE_SIZE: u8 = 57;
    pub(crate) const T1: u8 = 58;
    pub(crate) const T2: u8 = 59;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const RAPID_COMMIT: u8 = 80;
    pub(crate) const RELAY_AGENT: u8 = 82;
    pub(crate) const IPV6_ONLY: u8 = 108;
    pub(crate) const DOMAIN_SEARCH: u8 = 119;
    pub(crate) const CLASSLESS_ROUTES: u8 = 121;
    pub(crate) const CLASSLESS_ROUTES_MS: u8 = 249;
    pub(crate) const END: u8 = 255;
}
