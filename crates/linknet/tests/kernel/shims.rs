//! A host's own macvlans, and what is needed to have them.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use linknet::{HostRoute, Lock, NewAddress, NewMacvlan, Shared, Shims, Tag};

use crate::{Space, Test};

crate::tests![
    whoever_comes_shares_it_and_the_last_takes_it_away,
    one_that_was_left_half_made_is_completed,
    a_namespace_is_known_by_the_number_that_links_name,
    the_lock_is_one_persons_and_not_waited_for_for_ever,
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A host whose parent has 10.99.0.2/24 and fd00::2/64, and the parent's index.
fn host() -> Result<(Space, u32), libtest_mimic::Failed> {
    let host = Space::new()?;
    let parent = host.plug("eth1")?.index;
    for net in ["10.99.0.2/24", "fd00::2/64"] {
        let net: IpNet = net.parse()?;
        host.netlink.add_address(
            parent,
            &NewAddress {
                nodad: true,
                ..NewAddress::new(net)
            },
        )?;
    }
    Ok((host, parent))
}

fn shims(host: &Space) -> linknet::Result<Shims> {
    Shims::of(&host.netns, Lock::take()?)
}

fn whoever_comes_shares_it_and_the_last_takes_it_away() -> Test {
    let (host, parent) = host()?;
    let (one, two) = (Tag::new("lan", "c1", "eth0"), Tag::new("lan", "c2", "eth0"));
    let reached = shims(&host)?.join(parent, one, &[ip("10.99.0.61"), ip("fd00::61")])?;
    let from: Vec<_> = reached.iter().map(|reached| reached.from).collect();
    assert_eq!(from, [Some(ip("10.99.0.2")), Some(ip("fd00::2"))]);
    let shim = host.link("lh-eth1")?;
    assert!(
        Shared::Shim.is(&shim) && shim.up && shim.group == 0,
        "{shim:?}"
    );
    // What the kernel has made of its MAC, for containers to go by.
    let addresses: Vec<_> = host
        .netlink
        .addresses(shim.index)?
        .iter()
        .map(|address| address.net.addr())
        .collect();
    assert_eq!(addresses, [reached[0].shim]);

    // Once more changes nothing.
    shims(&host)?.join(parent, two, &[ip("10.99.0.62")])?;
    shims(&host)?.join(parent, two, &[ip("10.99.0.62")])?;
    assert_eq!(host.link("lh-eth1")?.index, shim.index);
    assert_eq!(HostRoute::all(&host.netlink)?.len(), 3);
    let gone = shims(&host)?.part(|route| route.tag == one)?;
    assert_eq!(gone.len(), 2);
    assert_eq!(host.link("lh-eth1")?.index, shim.index);
    shims(&host)?.part(|route| route.tag == two)?;
    assert_eq!(host.netlink.link("lh-eth1")?, None);
    Ok(())
}

fn one_that_was_left_half_made_is_completed() -> Test {
    let (host, parent) = host()?;
    let new = NewMacvlan {
        group: Shared::GROUP,
        ..NewMacvlan::new("lh-eth1", parent)
    };
    let left = host.netlink.add_macvlan(&new, &host.netns, &host.netlink)?;
    shims(&host)?.join(parent, Tag::new("lan", "c1", "eth0"), &[ip("10.99.0.61")])?;
    let shim = host.link("lh-eth1")?;
    assert!(
        shim.index == left.index && shim.up && shim.group == 0,
        "{shim:?}"
    );
    let addresses = host.netlink.addresses(shim.index)?;
    assert!(
        addresses.is_empty(),
        "IPv6 is for those who need it: {addresses:?}"
    );
    Ok(())
}

fn a_namespace_is_known_by_the_number_that_links_name() -> Test {
    let (host, parent) = host()?;
    let (container, other) = (Space::new()?, Space::new()?);
    assert_eq!(
        container.netlink.nsid(&host.netns)?,
        None,
        "nothing of it is there yet"
    );
    host.netlink.add_macvlan(
        &NewMacvlan::new("eth0", parent),
        &container.netns,
        &container.netlink,
    )?;
    let link = container.link("eth0")?;
    assert!(link.parent_netnsid.is_some());
    assert_eq!(container.netlink.nsid(&host.netns)?, link.parent_netnsid);
    assert_eq!(container.netlink.nsid(&other.netns)?, None);
    Ok(())
}

fn the_lock_is_one_persons_and_not_waited_for_for_ever() -> Test {
    let lock = Lock::take()?;
    let error = Lock::take_within(Duration::from_millis(20)).expect_err("it is taken");
    assert!(error.to_string().contains("leasehold.lock"), "{error}");
    drop(lock);
    Lock::take_within(Duration::from_secs(5))?;
    Ok(())
}
