//! Addresses.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::IpNet;
use libtest_mimic::Failed;
use linknet::{Address, Dad, NewAddress, Protocol, Scope};

use crate::{Space, Test, cable, until};

crate::tests![
    an_added_address_is_listed_with_all_its_properties,
    an_address_has_the_broadcast_address_of_its_prefix,
    prefixes_of_31_and_32_bits_have_no_broadcast_address,
    an_address_without_lifetimes_remains_forever,
    replacing_an_address_sets_its_lifetimes,
    adding_an_address_twice_fails_because_it_exists,
    deleting_an_address_twice_fails_because_it_is_absent,
    a_point_to_point_address_is_removed_as_it_is_listed,
    an_address_is_taken_off_whatever_its_prefix_and_its_other_end,
    all_addresses_are_taken_off_unless_there_are_too_many,
    the_second_address_of_a_prefix_is_secondary,
    an_ipv6_address_is_tentative_until_detection_finds_no_duplicate,
    detection_fails_for_an_ipv6_address_that_another_host_has,
    an_ipv6_address_with_nodad_is_usable_at_once,
    only_the_addresses_of_the_given_link_are_listed,
    an_address_whose_label_is_not_utf_8_is_listed,
];

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// The address `net` of a link.
fn find(space: &Space, link: &str, net: IpNet) -> Result<Address, Failed> {
    let addresses = space.netlink.addresses(space.link(link)?.index)?;
    Ok(addresses
        .into_iter()
        .find(|address| address.net == net)
        .ok_or_else(|| format!("no {net} on {link}"))?)
}

fn an_added_address_is_listed_with_all_its_properties() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.5/24"), net("fd00::5/64")] {
        let new = NewAddress {
            valid: Some(Duration::from_millis(3_600_900)),
            preferred: Some(Duration::from_secs(1800)),
            nodad: true,
            metric: Some(77),
            protocol: Some(Protocol::DHCP),
            ..NewAddress::new(net)
        };
        space.netlink.add_address(index, &new)?;
        let address = find(&space, "eth0", net)?;
        assert_eq!(
            (address.index, address.peer, address.scope),
            (index, None, Scope::UNIVERSE)
        );
        let seconds = |lifetime: Option<Duration>| lifetime.map(|lifetime| lifetime.as_secs());
        assert!(
            (3590..=3600).contains(&seconds(address.valid).unwrap_or(0)),
            "{address:?}"
        );
        assert!(
            (1790..=1800).contains(&seconds(address.preferred).unwrap_or(0)),
            "{address:?}"
        );
        assert_eq!(
            (address.metric, address.protocol),
            (Some(77), Some(Protocol::DHCP))
        );
        assert_eq!((address.dad, address.secondary), (Dad::Done, false));
    }
    Ok(())
}

fn an_address_has_the_broadcast_address_of_its_prefix() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    space
        .netlink
        .add_address(index, &NewAddress::new(net("10.99.3.5/22")))?;
    let address = find(&space, "eth0", net("10.99.3.5/22"))?;
    assert_eq!(address.broadcast, Some(Ipv4Addr::new(10, 99, 3, 255)));
    Ok(())
}

fn prefixes_of_31_and_32_bits_have_no_broadcast_address() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.4/31"), net("10.99.0.6/32")] {
        space.netlink.add_address(index, &NewAddress::new(net))?;
        assert_eq!(find(&space, "eth0", net)?.broadcast, None);
    }
    Ok(())
}

fn an_address_without_lifetimes_remains_forever() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.5/24"), net("fd00::5/64")] {
        space.netlink.add_address(index, &NewAddress::new(net))?;
        let address = find(&space, "eth0", net)?;
        assert_eq!(
            (address.valid, address.preferred, address.metric),
            (None, None, None)
        );
    }
    Ok(())
}

fn replacing_an_address_sets_its_lifetimes() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.5/24"), net("fd00::5/64")] {
        let short = NewAddress {
            valid: Some(Duration::from_secs(60)),
            ..NewAddress::new(net)
        };
        space.netlink.replace_address(index, &short)?;
        let address = find(&space, "eth0", net)?;
        assert!(
            address.valid <= Some(Duration::from_secs(60)) && address.preferred <= address.valid
        );
        space
            .netlink
            .replace_address(index, &NewAddress::new(net))?;
        assert_eq!(find(&space, "eth0", net)?.valid, None);
    }
    Ok(())
}

fn adding_an_address_twice_fails_because_it_exists() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.5/24"), net("fd00::5/64")] {
        space.netlink.add_address(index, &NewAddress::new(net))?;
        let error = space
            .netlink
            .add_address(index, &NewAddress::new(net))
            .expect_err("there already");
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().contains(&net.to_string()), "{error}");
    }
    Ok(())
}

fn deleting_an_address_twice_fails_because_it_is_absent() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for net in [net("10.99.0.5/24"), net("fd00::5/64")] {
        space.netlink.add_address(index, &NewAddress::new(net))?;
        space.netlink.delete_address(index, net)?;
        let error = space.netlink.delete_address(index, net).expect_err("gone");
        assert!(error.is_absent(), "{error}");
    }
    Ok(())
}

fn a_point_to_point_address_is_removed_as_it_is_listed() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for (own, peer) in [("10.99.0.5", "192.0.2.7/24"), ("fd00::5", "fd01::7/64")] {
        space.ip(&format!("addr add {own} peer {peer} dev eth0"))?;
        let is_it = |address: &Address| address.net.addr().to_string() == own;
        let listed = || space.netlink.addresses(index);
        let found = listed()?.into_iter().find(is_it).ok_or("it is listed")?;
        assert!(found.peer.is_some(), "{found:?}");
        space.netlink.remove_address(&found)?;
        assert!(!listed()?.iter().any(is_it));
        let error = space.netlink.remove_address(&found).expect_err("gone");
        assert!(error.is_absent(), "{error}");
    }
    Ok(())
}

fn an_address_is_taken_off_whatever_its_prefix_and_its_other_end() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for address in [
        "10.99.0.5/24",
        "10.99.0.5/32",
        "10.99.0.5 peer 10.77.0.1/30",
        "10.98.0.6/24",
        "fd00::5/120 nodad",
        "fd00::6/120 nodad",
    ] {
        space.ip(&format!("addr add {address} dev eth0"))?;
    }
    for (address, is_there) in [
        ("10.99.0.5", true),
        ("10.99.0.5", false),
        ("fd00::5", true),
        ("fd00::5", false),
    ] {
        let taken_off = space.netlink.take_off(index, address.parse()?)?;
        assert_eq!(taken_off, is_there, "{address}");
    }
    let listed = space.netlink.addresses(index)?;
    let left = listed.iter().filter(|address| address.scope < Scope::LINK);
    let left: Vec<IpNet> = left.map(|address| address.net).collect();
    assert_eq!(left, [net("10.98.0.6/24"), net("fd00::6/120")]);
    assert!(!space.netlink.take_off(999_999, "10.99.0.5".parse()?)?);
    Ok(())
}

fn all_addresses_are_taken_off_unless_there_are_too_many() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    space.ip("addr flush dev eth0")?;
    for last in 1..=3 {
        space.ip(&format!("addr add 10.99.0.{last}/24 dev eth0"))?;
    }
    let error = space.netlink.take_all_off(index, 2).expect_err("too many");
    assert_eq!(error.errno(), Some(libc::E2BIG), "{error}");
    assert_eq!(space.netlink.addresses(index)?.len(), 3);
    space.netlink.take_all_off(index, 3)?;
    assert_eq!(space.netlink.addresses(index)?, []);
    Ok(())
}

fn the_second_address_of_a_prefix_is_secondary() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    for last in [5, 6] {
        let net = IpNet::new(Ipv4Addr::new(10, 99, 0, last).into(), 24)?;
        space.netlink.add_address(index, &NewAddress::new(net))?;
        assert_eq!(find(&space, "eth0", net)?.secondary, last == 6);
    }
    Ok(())
}

fn an_ipv6_address_is_tentative_until_detection_finds_no_duplicate() -> Test {
    let (left, _right) = cable()?;
    let net = net("fd00::5/64");
    left.netlink
        .add_address(left.link("left")?.index, &NewAddress::new(net))?;
    assert_eq!(find(&left, "left", net)?.dad, Dad::Tentative);
    until("the end of duplicate address detection", || {
        Ok((find(&left, "left", net)?.dad == Dad::Done).then_some(()))
    })
}

fn detection_fails_for_an_ipv6_address_that_another_host_has() -> Test {
    let (left, right) = cable()?;
    let net = net("fd00::5/64");
    let theirs = NewAddress {
        nodad: true,
        ..NewAddress::new(net)
    };
    right
        .netlink
        .add_address(right.link("right")?.index, &theirs)?;
    left.netlink
        .add_address(left.link("left")?.index, &NewAddress::new(net))?;
    until("duplicate address detection to fail", || {
        Ok((find(&left, "left", net)?.dad == Dad::Failed).then_some(()))
    })
}

fn an_ipv6_address_with_nodad_is_usable_at_once() -> Test {
    let (left, _right) = cable()?;
    let net = net("fd00::5/64");
    let new = NewAddress {
        nodad: true,
        ..NewAddress::new(net)
    };
    left.netlink.add_address(left.link("left")?.index, &new)?;
    assert_eq!(find(&left, "left", net)?.dad, Dad::Done);
    Ok(())
}

fn only_the_addresses_of_the_given_link_are_listed() -> Test {
    let space = Space::new()?;
    let (one, other) = (space.plug("eth0")?.index, space.plug("eth1")?.index);
    space
        .netlink
        .add_address(one, &NewAddress::new(net("10.0.0.1/8")))?;
    space
        .netlink
        .add_address(other, &NewAddress::new(net("11.0.0.1/8")))?;
    assert!(
        space
            .netlink
            .addresses(one)?
            .iter()
            .all(|address| address.index == one)
    );
    assert!(space.netlink.all_addresses()?.len() >= 2);
    let error = space.netlink.addresses(999_999).expect_err("no such link");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn an_address_whose_label_is_not_utf_8_is_listed() -> Test {
    let space = Space::new()?;
    space.ip(b"addr add 10.99.0.5/24 dev lo label lo:\xff")?;
    let listed = space.netlink.all_addresses()?;
    assert!(
        listed
            .iter()
            .any(|address| address.net == net("10.99.0.5/24")),
        "{listed:?}"
    );
    Ok(())
}
