//! Addresses.

use std::time::Duration;

use ipnet::IpNet;
use libc::{RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};

use super::*;

pub(super) fn address_message(family: AddressFamily, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = prefix;
    message.header.index = LINK;
    message
}

fn lifetimes(valid: u32, preferred: u32) -> AddressAttribute {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    lifetimes.ifa_preferred = preferred;
    AddressAttribute::CacheInfo(lifetimes)
}

#[test]
fn an_ipv4_address_comes_with_its_broadcast_address_and_lifetimes() {
    let mut message = address_message(AddressFamily::Inet, 22);
    let address = ip("10.99.3.5");
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Broadcast([10, 99, 3, 255].into()),
        lifetimes(u32::MAX, u32::MAX),
    ];
    let new = NewAddress::new(net("10.99.3.5/22"));
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.replace_address(LINK, &new)),
        request(RTM_NEWADDR, REPLACE, &message)
    );
}

#[test]
fn an_ipv4_address_with_a_prefix_of_31_or_32_bits_has_no_broadcast_address() {
    for prefix in [31, 32] {
        let mut message = address_message(AddressFamily::Inet, prefix);
        let address = ip("10.99.0.4");
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
            lifetimes(u32::MAX, u32::MAX),
        ];
        let new = NewAddress::new(IpNet::new(address, prefix).expect("a prefix"));
        assert_eq!(
            sent(|netlink| netlink.add_address(LINK, &new)),
            request(RTM_NEWADDR, CREATE, &message)
        );
    }
}

#[test]
fn an_ipv4_address_can_have_another_broadcast_address_than_its_prefix() {
    let mut message = address_message(AddressFamily::Inet, 24);
    let address = ip("10.99.3.5");
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Broadcast([10, 99, 255, 255].into()),
        lifetimes(u32::MAX, u32::MAX),
    ];
    let new = NewAddress {
        broadcast: Some([10, 99, 255, 255].into()),
        ..NewAddress::new(net("10.99.3.5/24"))
    };
    assert_eq!(
        sent(|netlink| netlink.replace_address(LINK, &new)),
        request(RTM_NEWADDR, REPLACE, &message)
    );
}

#[test]
fn an_address_can_have_a_scope_flags_lifetimes_a_metric_and_a_protocol() {
    let new = NewAddress {
        scope: Scope::LINK,
        valid: Some(Duration::from_millis(3_600_900)),
        preferred: Some(Duration::from_secs(1800)),
        nodad: true,
        metric: Some(77),
        protocol: Some(Protocol::DHCP),
        ..NewAddress::new(net("fd00::5/64"))
    };
    let mut message = address_message(AddressFamily::Inet6, 64);
    message.header.scope = AddressScope::Link;
    message.attributes = vec![
        AddressAttribute::Local(ip("fd00::5")),
        AddressAttribute::Address(ip("fd00::5")),
        AddressAttribute::RoutePriority(77),
        AddressAttribute::Protocol(16.into()),
        AddressAttribute::Flags(AddressFlags::Nodad),
        lifetimes(3600, 1800),
    ];
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
}

#[test]
fn a_lifetime_is_at_least_a_second_and_the_preferred_one_no_longer_than_the_valid_one() {
    let new = NewAddress {
        valid: Some(Duration::ZERO),
        ..NewAddress::new(net("fd00::5/64"))
    };
    let mut message = address_message(AddressFamily::Inet6, 64);
    message.attributes = vec![
        AddressAttribute::Local(ip("fd00::5")),
        AddressAttribute::Address(ip("fd00::5")),
        lifetimes(1, 1),
    ];
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
}

#[test]
fn a_lifetime_that_is_too_long_for_the_kernel_is_not_forever() {
    let new = NewAddress {
        valid: Some(Duration::MAX),
        ..NewAddress::new(net("fd00::5/64"))
    };
    let mut message = address_message(AddressFamily::Inet6, 64);
    message.attributes = vec![
        AddressAttribute::Local(ip("fd00::5")),
        AddressAttribute::Address(ip("fd00::5")),
        lifetimes(u32::MAX - 1, u32::MAX - 1),
    ];
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
}

#[test]
fn an_address_is_deleted_by_its_value_and_prefix_length() {
    for (family, text, prefix) in [
        (AddressFamily::Inet, "10.99.3.5", 22),
        (AddressFamily::Inet6, "fd00::5", 64),
        // Without it, the kernel would delete another address.
        (AddressFamily::Inet, "224.0.0.5", 24),
    ] {
        let mut message = address_message(family, prefix);
        message.attributes = vec![
            AddressAttribute::Local(ip(text)),
            AddressAttribute::Address(ip(text)),
        ];
        let net = IpNet::new(ip(text), prefix).expect("a prefix");
        assert_eq!(
            sent(|netlink| netlink.delete_address(LINK, net)),
            request(RTM_DELADDR, SET, &message)
        );
    }
}

#[test]
fn an_ipv4_address_is_taken_off_whatever_its_prefix() {
    let mut message = address_message(AddressFamily::Inet, 0);
    message.attributes = vec![AddressAttribute::Local(ip("10.99.3.5"))];
    assert_eq!(
        sent(|netlink| netlink.take_off(LINK, ip("10.99.3.5"))),
        request(RTM_DELADDR, SET, &message)
    );
}

#[test]
fn addresses_are_asked_for_by_link_and_for_all_links() {
    let mut message = AddressMessage::default();
    assert_eq!(
        sent(Netlink::all_addresses),
        request(RTM_GETADDR, DUMP, &message)
    );
    message.header.index = LINK;
    assert_eq!(
        sent(|netlink| netlink.addresses(LINK)),
        request(RTM_GETADDR, DUMP, &message)
    );
}
