//! What can be told from an IPv4 address alone.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Whether a host can have this address: it is not in 0.0.0.0/8, loopback, multicast or broadcast.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    address.octets()[0] != 0
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast()
}

/// The shortest prefix that a LAN can have. A shorter one, such as that of 128.0.0.0, would draw
/// most of the Internet onto the link.
const MIN_LAN_PREFIX_LEN: u8 = 8;

/// The prefix length of a LAN with this subnet mask; `None` if its bits are not contiguous, or if
/// it is shorter than any LAN's.
pub(crate) fn lan_prefix_len(mask: Ipv4Addr) -> Option<u8> {
    ipnet::ipv4_mask_to_prefix(mask)
        .ok()
        .filter(|&len| len >= MIN_LAN_PREFIX_LEN)
}

/// The network that an address stands for in an option without masks (RFC 2132 section 5.8, RFC
/// 950): that of its class, or the single host if any host bit is set.
pub(crate) fn classful_net(address: Ipv4Addr) -> Ipv4Net {
    let net = Ipv4Net::new_assert(address, class_prefix_len(address));
    if net.trunc() == net {
        net
    } else {
        Ipv4Net::from(address)
    }
}

/// The prefix length of the address' class.
pub(crate) fn class_prefix_len(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_mask_stands_for_the_network_of_its_class() {
        for (address, net) in [
            ("10.0.0.0", "10.0.0.0/8"),
            ("172.16.0.0", "172.16.0.0/16"),
            ("192.168.7.0", "192.168.7.0/24"),
            ("192.168.7.9", "192.168.7.9/32"),
            ("10.1.0.0", "10.1.0.0/32"),
        ] {
            assert_eq!(
                classful_net(address.parse().unwrap()),
                net.parse().unwrap(),
                "{address}"
            );
        }
    }
}
