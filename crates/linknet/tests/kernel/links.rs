//! Links.

use libtest_mimic::Failed;
use linknet::{Link, LinkEvents, LinkWatch, Mac, MacvlanMode, Netlink, NewMacvlan, OperState};

use crate::{Space, Test, cable, until};

crate::tests![
    a_macvlan_appears_in_another_namespace_with_everything_at_once,
    a_name_taken_in_the_parents_namespace_is_no_obstacle,
    a_name_taken_in_the_containers_namespace_is,
    the_parent_may_be_in_the_same_namespace,
    every_mode_is_read_back,
    a_source_macvlan_has_its_list,
    a_passthru_macvlan_can_leave_its_parent_unpromiscuous,
    a_passthru_macvlan_is_refused_while_another_is_on_the_parent_and_keeps_others_off,
    the_broadcast_queue_is_as_long_as_asked_for,
    the_broadcast_cutoff_is_read_back,
    the_kernels_refusals_are_told_apart,
    a_refusal_says_what_was_asked_and_what_the_kernel_said,
    a_macvlan_is_made_in_its_group,
    asking_for_the_driver_makes_nothing,
    a_link_is_found_by_every_name_it_has,
    a_link_that_is_not_there_is_none,
    a_link_can_be_changed,
    a_veth_reaches_into_another_namespace,
    a_bridge_has_ports,
    deleting_a_link_twice_says_that_it_is_absent,
    a_link_deleted_soon_is_gone_and_its_name_free,
    a_refusal_to_delete_a_link_soon_is_told,
    many_links_are_listed_whole,
    a_watch_hears_of_a_carrier_that_goes_and_comes,
];

const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x11]);

fn a_macvlan_appears_in_another_namespace_with_everything_at_once() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let new = NewMacvlan {
        mac: Some(MAC),
        mtu: Some(1400),
        up: true,
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;

    assert_eq!(link.name, "net1");
    assert_eq!(link.mac, Some(MAC));
    assert_eq!(link.mtu, 1400);
    assert!(link.up && link.running && link.carrier);
    // Older kernels take a moment to say that it is up.
    assert!(
        matches!(link.state, OperState::Up | OperState::Unknown),
        "{}",
        link.state
    );
    assert_eq!(link.kind.as_deref(), Some("macvlan"));
    assert_eq!(link.parent, Some(parent.index));
    assert!(link.parent_netnsid.is_some(), "the parent is elsewhere");
    assert_eq!(
        link.macvlan.as_ref().and_then(|macvlan| macvlan.mode),
        Some(MacvlanMode::Bridge)
    );
    assert_eq!(
        container.netlink.link_by_index(link.index)?.as_ref(),
        Some(&link)
    );
    assert!(host.netlink.link("net1")?.is_none());
    Ok(())
}

fn a_name_taken_in_the_parents_namespace_is_no_obstacle() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth0")?;
    let new = NewMacvlan {
        up: true,
        mac: Some(MAC),
        ..NewMacvlan::new("eth0", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    assert_eq!(
        (link.name.as_str(), link.mac, link.up),
        ("eth0", Some(MAC), true)
    );
    // Where its driver cannot filter by a second MAC it becomes promiscuous.
    let now = host.link("eth0")?;
    assert_eq!(
        now,
        Link {
            promiscuity: now.promiscuity,
            ..parent
        }
    );
    assert_eq!(
        container.netlink.links()?.len(),
        2,
        "loopback and the new one"
    );
    Ok(())
}

fn a_name_taken_in_the_containers_namespace_is() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let there = container.plug("eth0")?;
    let new = NewMacvlan::new("eth0", parent.index);
    let error = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)
        .expect_err("taken");
    assert!(error.is_exists(), "{error}");
    assert_eq!(container.link("eth0")?, there);
    assert_eq!(
        container.netlink.links()?.len(),
        2,
        "nothing is left behind"
    );
    Ok(())
}

fn the_parent_may_be_in_the_same_namespace() -> Test {
    let container = Space::new()?;
    let parent = container.plug("eth0")?;
    let new = NewMacvlan::new("net1", parent.index);
    let link = container
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    assert_eq!(
        (link.parent, link.parent_netnsid),
        (Some(parent.index), None)
    );
    assert!(!link.up);
    Ok(())
}

fn every_mode_is_read_back() -> Test {
    for mode in [
        MacvlanMode::Bridge,
        MacvlanMode::Private,
        MacvlanMode::Vepa,
        MacvlanMode::Passthru,
        MacvlanMode::Source,
    ] {
        let (host, container) = (Space::new()?, Space::new()?);
        let parent = host.plug("eth1")?;
        let new = NewMacvlan {
            mode,
            ..NewMacvlan::new("net1", parent.index)
        };
        let link = host
            .netlink
            .add_macvlan(&new, &container.netns, &container.netlink)?;
        assert_eq!(link.macvlan.and_then(|macvlan| macvlan.mode), Some(mode));
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    Ok(())
}

fn a_source_macvlan_has_its_list() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let sources = [MAC, Mac([0x02, 0, 0, 0, 0, 0x12])];
    let new = NewMacvlan {
        mode: MacvlanMode::Source,
        sources: &sources,
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    let mut listed = link
        .macvlan
        .map(|macvlan| macvlan.sources)
        .unwrap_or_default();
    listed.sort();
    assert_eq!(listed, sources);
    Ok(())
}

fn a_passthru_macvlan_can_leave_its_parent_unpromiscuous() -> Test {
    for nopromisc in [false, true] {
        let (host, container) = (Space::new()?, Space::new()?);
        let parent = host.plug("eth1")?;
        let new = NewMacvlan {
            mode: MacvlanMode::Passthru,
            nopromisc,
            up: true,
            ..NewMacvlan::new("net1", parent.index)
        };
        let link = host
            .netlink
            .add_macvlan(&new, &container.netns, &container.netlink)?;
        assert_eq!(
            link.macvlan.map(|macvlan| macvlan.nopromisc),
            Some(nopromisc)
        );
        assert_eq!(link.mac, parent.mac);
        assert_eq!(
            host.link("eth1")?.promiscuity,
            parent.promiscuity + u32::from(!nopromisc)
        );
        container.netlink.delete_link(link.index)?;
        assert_eq!(host.link("eth1")?.promiscuity, parent.promiscuity);
    }
    Ok(())
}

/// By this one finds out whether a link has macvlans at all, in whichever namespaces they are.
fn a_passthru_macvlan_is_refused_while_another_is_on_the_parent_and_keeps_others_off() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let bridged = NewMacvlan::new("net1", parent.index);
    let probe = NewMacvlan {
        mode: MacvlanMode::Passthru,
        ..NewMacvlan::new("probe", parent.index)
    };
    let make = |new: &NewMacvlan<'_>, space: &Space| {
        host.netlink.add_macvlan(new, &space.netns, &space.netlink)
    };
    let link = make(&bridged, &container)?;
    assert!(make(&probe, &host).is_err_and(|error| error.is_invalid()));
    container.netlink.delete_link(link.index)?;
    let taken = make(&probe, &host)?;
    assert!(!taken.up && make(&bridged, &container).is_err_and(|error| error.is_invalid()));
    assert_eq!(
        host.link("eth1")?.promiscuity,
        parent.promiscuity,
        "nothing is received through it"
    );
    Ok(())
}

fn the_broadcast_queue_is_as_long_as_asked_for() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let new = NewMacvlan {
        bc_queue_len: Some(4000),
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    let macvlan = link.macvlan.ok_or("no macvlan")?;
    assert_eq!(
        (macvlan.bc_queue_len, macvlan.bc_queue_len_used),
        (Some(4000), Some(4000))
    );
    Ok(())
}

/// Fails before Linux 6.5.
fn the_broadcast_cutoff_is_read_back() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let new = NewMacvlan {
        bc_cutoff: Some(7),
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    assert_eq!(link.macvlan.and_then(|macvlan| macvlan.bc_cutoff), Some(7));
    Ok(())
}

fn the_kernels_refusals_are_told_apart() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let add = |new: &NewMacvlan<'_>| {
        host.netlink
            .add_macvlan(new, &container.netns, &container.netlink)
    };

    let new = NewMacvlan::new("net1", 999_999);
    let error = add(&new).expect_err("no such parent");
    assert!(error.is_absent(), "{error}");

    let new = NewMacvlan {
        mac: Some(Mac::BROADCAST),
        ..NewMacvlan::new("net1", parent.index)
    };
    let error = add(&new).expect_err("a group address");
    assert_eq!(error.errno(), Some(libc::EADDRNOTAVAIL), "{error}");

    let new = NewMacvlan {
        mtu: Some(parent.mtu + 1),
        ..NewMacvlan::new("net1", parent.index)
    };
    let error = add(&new).expect_err("more than the parent takes");
    assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");

    add(&NewMacvlan {
        mac: Some(MAC),
        up: true,
        ..NewMacvlan::new("net1", parent.index)
    })?;
    let new = NewMacvlan {
        mac: Some(MAC),
        up: true,
        ..NewMacvlan::new("net2", parent.index)
    };
    let error = add(&new).expect_err("two of one address");
    assert!(error.is_address_in_use(), "{error}");
    assert!(
        container.netlink.link("net2")?.is_none(),
        "nothing is left behind"
    );

    // A bridge takes all that its port receives, and leaves nothing for a macvlan.
    host.netlink.add_bridge("br0")?;
    let port = host.plug("port")?;
    host.netlink
        .set_master(port.index, Some(host.link("br0")?.index))?;
    let error = add(&NewMacvlan::new("net3", port.index)).expect_err("the parent is a port");
    assert!(error.is_busy(), "{error}");
    Ok(())
}

fn a_refusal_says_what_was_asked_and_what_the_kernel_said() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    let error = space
        .netlink
        .set_mtu(link.index, 1)
        .expect_err("too little");
    assert_eq!(error.kernel_text(), Some("mtu less than device minimum"));
    let expected = format!(
        "set the MTU of link {} to 1: mtu less than device minimum (EINVAL, Invalid argument)",
        link.index
    );
    assert_eq!(error.to_string(), expected);
    Ok(())
}

fn a_macvlan_is_made_in_its_group() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    assert_eq!(parent.group, 0);
    let new = NewMacvlan {
        group: 0xfedc_ba98,
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    assert_eq!((link.group, link.alias), (0xfedc_ba98, None));
    container
        .netlink
        .set_alias_and_group(link.index, "done", 0)?;
    let link = container.link("net1")?;
    assert_eq!((link.group, link.alias.as_deref()), (0, Some("done")));
    Ok(())
}

fn asking_for_the_driver_makes_nothing() -> Test {
    let space = Space::new()?;
    assert!(space.netlink.has_macvlan()?);
    space.netlink.has_vlan()?; // the answer is the kernel's own affair
    assert_eq!(space.netlink.links()?.len(), 1, "loopback");
    Ok(())
}

fn a_link_is_found_by_every_name_it_has() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    let long = "enp0s31f6-the-port-next-to-the-window";
    space.ip("link property add dev eth0 altname short")?;
    space.ip(&format!("link property add dev eth0 altname {long}"))?;
    space.netlink.set_alias(index, "uplink")?;
    for name in ["eth0", "short", long] {
        assert_eq!(space.link(name)?.index, index, "{name}");
    }
    let link = space.link("eth0")?;
    assert_eq!(link.alt_names, ["short", long]);
    assert_eq!(link.alias.as_deref(), Some("uplink"));
    assert_eq!(
        space
            .netlink
            .links()?
            .into_iter()
            .find(|other| other.index == index),
        Some(link)
    );
    Ok(())
}

fn a_link_that_is_not_there_is_none() -> Test {
    let space = Space::new()?;
    assert_eq!(space.netlink.link("eth0")?, None);
    assert_eq!(
        space.netlink.link("a-name-longer-than-any-interface-has")?,
        None
    );
    assert_eq!(space.netlink.link_by_index(4711)?, None);
    let lo = space.link("lo")?;
    assert!(lo.loopback && !lo.up && lo.kind.is_none());
    Ok(())
}

fn a_link_can_be_changed() -> Test {
    let space = Space::new()?;
    let netlink = &space.netlink;
    let index = space.plug("eth0")?.index;
    netlink.set_down(index)?;
    assert!(!space.link("eth0")?.up);
    netlink.set_mac(index, MAC)?;
    netlink.set_mtu(index, 1300)?;
    netlink.rename(index, "eth7")?;
    netlink.set_up(index)?;
    let link = space.link("eth7")?;
    assert_eq!(
        (link.index, link.mac, link.mtu, link.up),
        (index, Some(MAC), 1300, true)
    );
    space.plug("eth0")?;
    let other = space.link("eth0")?.index;
    netlink.set_down(other)?;
    let error = netlink.rename(other, "eth7").expect_err("taken");
    assert!(error.is_exists(), "{error}");
    Ok(())
}

fn a_veth_reaches_into_another_namespace() -> Test {
    let (left, right) = cable()?;
    let (one, other) = (left.link("left")?, right.link("right")?);
    assert_eq!(one.kind.as_deref(), Some("veth"));
    assert_eq!(
        (one.parent, other.parent),
        (Some(other.index), Some(one.index))
    );
    assert!(one.parent_netnsid.is_some());
    right.netlink.set_down(other.index)?;
    until("the carrier to go", || {
        Ok((!left.link("left")?.carrier).then_some(()))
    })?;
    assert!(left.link("left")?.up);
    Ok(())
}

fn a_bridge_has_ports() -> Test {
    let space = Space::new()?;
    space.netlink.add_bridge("br0")?;
    let bridge = space.link("br0")?;
    let port = space.plug("port")?;
    space.netlink.set_master(port.index, Some(bridge.index))?;
    let port = space.link("port")?;
    assert_eq!(
        (port.master, port.port_kind.as_deref()),
        (Some(bridge.index), Some("bridge"))
    );
    space.netlink.set_master(port.index, None)?;
    let port = space.link("port")?;
    assert_eq!((port.master, port.port_kind), (None, None));
    Ok(())
}

fn deleting_a_link_twice_says_that_it_is_absent() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    space.netlink.delete_link(link.index)?;
    let error = space.netlink.delete_link(link.index).expect_err("gone");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn a_link_deleted_soon_is_gone_and_its_name_free() -> Test {
    let space = Space::new()?;
    for _ in 0..20 {
        let link = space.plug("eth0")?;
        space.netlink.delete_link_nowait(&space.netns, link.index)?;
        assert_eq!(space.netlink.link("eth0")?, None);
    }
    Ok(())
}

fn a_refusal_to_delete_a_link_soon_is_told() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    space.netlink.delete_link_nowait(&space.netns, link.index)?;
    let error = space
        .netlink
        .delete_link_nowait(&space.netns, link.index)
        .expect_err("gone");
    assert!(error.is_absent(), "{error}");
    let loopback = space.link("lo")?;
    let error = space
        .netlink
        .delete_link_nowait(&space.netns, loopback.index)
        .expect_err("not a virtual one");
    assert!(!error.is_absent(), "{error}");
    Ok(())
}

fn many_links_are_listed_whole() -> Test {
    let space = Space::new()?;
    for i in 0..150 {
        space.netlink.add_bridge(&format!("br{i}"))?;
    }
    let reader = Netlink::open_in(&space.netns)?;
    assert_eq!(reader.links()?.len(), 151);
    Ok(())
}

fn a_watch_hears_of_a_carrier_that_goes_and_comes() -> Test {
    let (left, right) = cable()?;
    let watch = left.netns.run(LinkWatch::open)??;
    assert_eq!(watch.next()?, LinkEvents::None);
    let far_end = right.link("right")?.index;
    right.netlink.set_down(far_end)?;
    until("the carrier to go", || heard(&watch, false))?;
    right.netlink.set_up(far_end)?;
    until("the carrier to come", || heard(&watch, true))?;
    let index = left.link("left")?.index;
    left.netlink.delete_link(index)?;
    until("the link to go", || {
        let LinkEvents::Changes { removed, .. } = watch.next()? else {
            return Ok(None);
        };
        Ok(removed.contains(&index).then_some(()))
    })
}

/// Whether the watch has a word about the carrier of `left`.
fn heard(watch: &LinkWatch, carrier: bool) -> Result<Option<()>, Failed> {
    let LinkEvents::Changes { changed, .. } = watch.next()? else {
        return Ok(None);
    };
    Ok(changed
        .iter()
        .any(|link| link.name == "left" && link.carrier == carrier)
        .then_some(()))
}
