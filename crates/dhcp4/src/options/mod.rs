//! DHCP options: as octets, and as the values that they stand for.

pub(crate) mod code;
mod list;
pub mod names;
mod route;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use list::OptionList;
pub use route::Route;

/// One option as it is on the wire, with its fragments joined (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawOption {
    /// The option's code.
    pub code: u8,
    /// The option's value, without code and length. Serialized as hexadecimal digits.
    #[serde(with = "crate::hex")]
    pub data: Vec<u8>,
}

impl RawOption {
    /// Makes an option of this code and value.
    pub fn new(code: u8, data: impl Into<Vec<u8>>) -> RawOption {
        RawOption {
            code,
            data: data.into(),
        }
    }
}

/// The options of an ACK, apart from those that make up the [`Lease`](crate::Lease) itself.
///
/// A value that was absent, malformed or out of bounds is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)] // a lease stored by an earlier version lacks the fields added since
pub struct Options {
    /// Option 3, in the server's order of preference.
    pub routers: Vec<Ipv4Addr>,
    /// Option 33.
    pub static_routes: Vec<Route>,
    /// Option 121 (RFC 3442), or option 249, Microsoft's number for it.
    pub classless_routes: Vec<Route>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15: a well-formed domain name without the final dot.
    pub domain: Option<String>,
    /// Option 119 (RFC 3397): well-formed domain names without the final dot.
    pub search: Vec<String>,
    /// Option 26, in octets; at least 576.
    pub mtu: Option<u16>,
    /// Option 28.
    pub broadcast: Option<Ipv4Addr>,
    /// Every option of the message, including those above, in the order of their arrival.
    pub raw: OptionList,
}
