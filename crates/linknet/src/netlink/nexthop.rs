//! Next-hop objects (ip-nexthop(8)): what routes refer to by a number in place of a gateway.

use std::net::IpAddr;

use rtnetlink::packet_core::{DecodeError, Emitable};

use super::attribute::attributes;
use super::socket::Netlink;
use crate::error::Result;

/// `RTM_GETNEXTHOP` of linux/rtnetlink.h.
pub(super) const RTM_GETNEXTHOP: u16 = 106;

/// `NHA_GATEWAY` of linux/nexthop.h.
const NHA_GATEWAY: u16 = 6;

/// The length of `struct nhmsg` of linux/nexthop.h.
const HEADER_LEN: usize = 8;

impl Netlink {
    /// The gateways of all next-hop objects, whether or not a route refers to them. A route that
    /// does has no gateway of its own if `net.ipv4.nexthop_compat_mode` is 0. Groups are listed by
    /// their members. The list is empty before kernel 5.3, which has no such objects.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn nexthop_gateways(&self) -> Result<Vec<IpAddr>> {
        let what = || "list next-hop objects".to_owned();
        match self.dump(&what, RTM_GETNEXTHOP, &NexthopQuery, gateway) {
            Ok(found) => Ok(found.into_iter().flatten().collect()),
            Err(error) if error.is_unsupported() || error.is_invalid() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// A request for all objects: `struct nhmsg`, in which everything is unspecified.
struct NexthopQuery;

impl Emitable for NexthopQuery {
    fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, _zeroes: &mut [u8]) {}
}

/// The gateway of the object that a message describes; `None` for a group, a blackhole, and an
/// object on the link.
pub(super) fn gateway(payload: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    let octets = payload.get(HEADER_LEN..).ok_or("a header is cut off")?;
    let gateway = attributes(octets).find(|attribute| attribute.kind() == NHA_GATEWAY);
    let Some(gateway) = gateway else {
        return Ok(None);
    };
    let value = gateway.value();
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
    let address = address.map_err(|_| format!("a gateway of {} octets", value.len()))?;
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gateway of an object with these attributes: kind and value.
    fn read(described: &[(u16, &[u8])]) -> Result<Option<String>, DecodeError> {
        let mut payload = vec![2, 0, 4, 0, 0, 0, 0, 0];
        for (kind, value) in described {
            payload.extend((value.len() as u16 + 4).to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(*value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        gateway(&payload).map(|gateway| gateway.map(|address| address.to_string()))
    }

    #[test]
    fn a_gateway_is_of_either_family() {
        let id: (u16, &[u8]) = (1, &[7, 0, 0, 0]);
        let link: (u16, &[u8]) = (5, &[2, 0, 0, 0]);
        let v4 = read(&[id, link, (NHA_GATEWAY, &[10, 99, 0, 1])]);
        assert_eq!(v4.unwrap().as_deref(), Some("10.99.0.1"));
        let mut address = [0; 16];
        address[0] = 0xfd;
        address[15] = 1;
        let v6 = read(&[id, link, (NHA_GATEWAY, &address)]);
        assert_eq!(v6.unwrap().as_deref(), Some("fd00::1"));
    }

    #[test]
    fn groups_blackholes_and_links_have_no_gateway() {
        let group: (u16, &[u8]) = (2, &[1, 0, 0, 0, 0, 0, 0, 0]);
        for object in [group, (4, &[]), (5, &[2, 0, 0, 0])] {
            assert_eq!(read(&[(1, &[7, 0, 0, 0]), object]).unwrap(), None);
        }
    }

    #[test]
    fn a_malformed_object_is_an_error() {
        read(&[(NHA_GATEWAY, &[10, 99, 0])]).unwrap_err();
        gateway(&[2, 0, 4]).unwrap_err();
    }
}
