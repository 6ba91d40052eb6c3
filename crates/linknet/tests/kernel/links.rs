//! Links.

use std::fs;

use libtest_mimic::Failed;
use linknet::{Link, LinkEvents, LinkWatch, Mac, MacvlanMode, NewMacvlan, OperState};

use crate::{Space, Test, cable, until};

crate::tests![
    a_macvlan_appears_in_another_namespace_with_all_its_properties,
    a_macvlan_can_have_a_name_that_is_taken_in_its_parents_namespace,
    a_macvlan_cannot_have_a_name_that_is_taken_in_its_own_namespace,
    a_macvlan_and_its_parent_can_be_in_one_namespace,
    a_macvlan_is_read_back_with_its_mode,
    a_source_macvlan_is_read_back_with_its_sources,
    a_passthru_macvlan_with_nopromisc_leaves_its_parent_as_it_was,
    a_passthru_macvlan_and_another_macvlan_exclude_each_other,
    the_broadcast_queue_has_the_length_asked_for,
    the_broadcast_cutoff_is_read_back,
    the_kernels_refusals_can_be_told_apart,
    a_refusal_states_the_request_and_the_kernels_explanation,
    a_macvlan_is_created_in_its_group,
    asking_for_a_driver_creates_no_link,
    a_link_is_found_by_its_name_and_its_alternative_names,
    a_link_that_does_not_exist_is_none,
    a_renamed_links_mac_mtu_and_flags_can_be_changed,
    a_veth_loses_its_carrier_when_its_peer_goes_down,
    a_port_of_a_bridge_names_its_master,
    deleting_a_link_twice_fails_because_it_is_absent,
    a_link_deleted_without_waiting_is_gone_and_its_name_is_free,
    deleting_without_waiting_reports_a_refusal,
    a_list_of_many_links_is_complete,
    text_that_is_not_utf_8_is_shown_with_replacement_characters,
    a_link_with_hundreds_of_alternative_names_is_read_whole,
    a_macvlan_with_thousands_of_sources_is_read_whole,
    a_macvlan_with_more_sources_than_a_length_can_tell_is_known_as_one,
    a_watch_reports_a_lost_carrier_its_return_and_a_removed_link,
    a_watch_that_is_read_too_late_says_that_notifications_are_lost,
];

const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x11]);

fn a_macvlan_appears_in_another_namespace_with_all_its_properties() -> Test {
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
    // Older kernels report that it is up a moment later.
    assert!(
        matches!(link.state, OperState::Up | OperState::Unknown),
        "{}",
        link.state
    );
    assert_eq!(link.kind.as_deref(), Some("macvlan"));
    assert_eq!(link.parent, Some(parent.index));
    assert!(
        link.parent_netnsid.is_some(),
        "the parent is in another namespace"
    );
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

fn a_macvlan_can_have_a_name_that_is_taken_in_its_parents_namespace() -> Test {
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
    // The parent becomes promiscuous if its driver cannot filter by a second MAC.
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
        "loopback and the macvlan"
    );
    Ok(())
}

fn a_macvlan_cannot_have_a_name_that_is_taken_in_its_own_namespace() -> Test {
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

fn a_macvlan_and_its_parent_can_be_in_one_namespace() -> Test {
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

fn a_macvlan_is_read_back_with_its_mode() -> Test {
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

fn a_source_macvlan_is_read_back_with_its_sources() -> Test {
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

fn a_passthru_macvlan_with_nopromisc_leaves_its_parent_as_it_was() -> Test {
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

/// This shows whether a link has macvlans in any namespace at all.
fn a_passthru_macvlan_and_another_macvlan_exclude_each_other() -> Test {
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
        "a macvlan that is down receives nothing"
    );
    Ok(())
}

fn the_broadcast_queue_has_the_length_asked_for() -> Test {
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

fn the_kernels_refusals_can_be_told_apart() -> Test {
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
    let error = add(&new).expect_err("larger than the parent's");
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
    let error = add(&new).expect_err("two macvlans with one MAC");
    assert!(error.is_address_in_use(), "{error}");
    assert!(
        container.netlink.link("net2")?.is_none(),
        "nothing is left behind"
    );

    // A bridge takes every frame that its port receives, and leaves none for a macvlan.
    let port = host.plug("port")?;
    host.ip("link add br0 type bridge")?;
    host.ip("link set port master br0")?;
    let error = add(&NewMacvlan::new("net3", port.index)).expect_err("the parent is a port");
    assert!(error.is_busy(), "{error}");
    Ok(())
}

fn a_refusal_states_the_request_and_the_kernels_explanation() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    let error = space.netlink.set_mtu(link.index, 1).expect_err("too small");
    assert_eq!(error.kernel_text(), Some("mtu less than device minimum"));
    let expected = format!(
        "set the MTU of link {} to 1: mtu less than device minimum (EINVAL, Invalid argument)",
        link.index
    );
    assert_eq!(error.to_string(), expected);
    Ok(())
}

fn a_macvlan_is_created_in_its_group() -> Test {
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

fn asking_for_a_driver_creates_no_link() -> Test {
    let space = Space::new()?;
    assert!(space.netlink.has_macvlan()?);
    space.netlink.has_vlan()?; // kernels differ in their answers
    assert_eq!(space.netlink.links()?.len(), 1, "loopback");
    Ok(())
}

fn a_link_is_found_by_its_name_and_its_alternative_names() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    let long = "enp0s31f6-the-port-next-to-the-window";
    space.ip("link property add dev eth0 altname short")?;
    space.ip(&format!("link property add dev eth0 altname {long}"))?;
    space.ip("link set eth0 alias uplink")?;
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

fn a_link_that_does_not_exist_is_none() -> Test {
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

fn a_renamed_links_mac_mtu_and_flags_can_be_changed() -> Test {
    let space = Space::new()?;
    let netlink = &space.netlink;
    let index = space.plug("eth0")?.index;
    space.ip("link set eth0 down")?;
    assert!(!space.link("eth0")?.up);
    space.ip("link set eth0 name eth7")?;
    netlink.set_mac(index, MAC)?;
    netlink.set_mtu(index, 1300)?;
    netlink.set_up(index)?;
    let link = space.link("eth7")?;
    assert_eq!(
        (link.index, link.mac, link.mtu, link.up),
        (index, Some(MAC), 1300, true)
    );
    netlink.set_down(index)?;
    assert!(!space.link("eth7")?.up);
    for (switch, is_on) in [("on", true), ("off", false)] {
        space.ip(&format!("link set eth7 promisc {switch}"))?;
        let link = space.link("eth7")?;
        assert_eq!((link.promiscuous, link.promiscuity > 0), (is_on, is_on));
    }
    Ok(())
}

fn a_veth_loses_its_carrier_when_its_peer_goes_down() -> Test {
    let (left, right) = cable()?;
    let (one, other) = (left.link("left")?, right.link("right")?);
    assert_eq!(one.kind.as_deref(), Some("veth"));
    assert_eq!(
        (one.parent, other.parent),
        (Some(other.index), Some(one.index))
    );
    assert!(one.parent_netnsid.is_some());
    right.ip("link set right down")?;
    until("the loss of the carrier", || {
        Ok((!left.link("left")?.carrier).then_some(()))
    })?;
    assert!(left.link("left")?.up);
    Ok(())
}

fn a_port_of_a_bridge_names_its_master() -> Test {
    let space = Space::new()?;
    space.plug("port")?;
    space.ip("link add br0 type bridge")?;
    space.ip("link set port master br0")?;
    let bridge = space.link("br0")?;
    let port = space.link("port")?;
    assert_eq!(
        (port.master, port.port_kind.as_deref()),
        (Some(bridge.index), Some("bridge"))
    );
    space.ip("link set port nomaster")?;
    let port = space.link("port")?;
    assert_eq!((port.master, port.port_kind), (None, None));
    Ok(())
}

fn deleting_a_link_twice_fails_because_it_is_absent() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    space.netlink.delete_link(link.index)?;
    let error = space.netlink.delete_link(link.index).expect_err("gone");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn a_link_deleted_without_waiting_is_gone_and_its_name_is_free() -> Test {
    let space = Space::new()?;
    for _ in 0..20 {
        let link = space.plug("eth0")?;
        space.netlink.delete_link_nowait(&space.netns, link.index)?;
        assert_eq!(space.netlink.link("eth0")?, None);
    }
    Ok(())
}

fn deleting_without_waiting_reports_a_refusal() -> Test {
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

fn a_list_of_many_links_is_complete() -> Test {
    let space = Space::new()?;
    let bridges = (0..150).map(|i| format!("link add br{i} type bridge\n"));
    fs::write("/run/bridges", bridges.collect::<String>())?;
    space.ip("-batch /run/bridges")?;
    assert_eq!(space.netlink.links()?.len(), 151);
    Ok(())
}

fn a_watch_reports_a_lost_carrier_its_return_and_a_removed_link() -> Test {
    let (left, right) = cable()?;
    let watch = left.netns.run(LinkWatch::open)??;
    assert_eq!(watch.next()?, LinkEvents::None);
    let far_end = right.link("right")?.index;
    right.ip("link set right down")?;
    until("the loss of the carrier", || reported(&watch, false))?;
    right.netlink.set_up(far_end)?;
    until("the carrier", || reported(&watch, true))?;
    let index = left.link("left")?.index;
    left.netlink.delete_link(index)?;
    until("the removal of the link", || {
        let LinkEvents::Changes { removed, .. } = watch.next()? else {
            return Ok(None);
        };
        Ok(removed.contains(&index).then_some(()))
    })
}

fn a_watch_that_is_read_too_late_says_that_notifications_are_lost() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    let watch = space.netns.run(LinkWatch::open)??;
    for change in 0..2000 {
        space.netlink.set_mtu(index, 1400 + change % 2)?;
    }
    assert_eq!(watch.next()?, LinkEvents::Overflow);
    let LinkEvents::Changes { changed, .. } = watch.next()? else {
        return Err("those that did fit are still reported".into());
    };
    assert_eq!(changed[0].index, index);
    Ok(())
}

/// Whether the watch reports that `left` has a carrier, or has none.
fn reported(watch: &LinkWatch, carrier: bool) -> Result<Option<()>, Failed> {
    let LinkEvents::Changes { changed, .. } = watch.next()? else {
        return Ok(None);
    };
    Ok(changed
        .iter()
        .any(|link| link.name == "left" && link.carrier == carrier)
        .then_some(()))
}

fn text_that_is_not_utf_8_is_shown_with_replacement_characters() -> Test {
    let space = Space::new()?;
    space.ip(b"link add l\xff type bridge")?;
    space.ip(b"link property add dev l\xff altname a\xff")?;
    space.ip(b"link set l\xff alias B\xfcro")?;
    let watch = space.netns.run(LinkWatch::open)??;
    space.ip(b"link set l\xff mtu 1400")?;

    let links = space.netlink.links()?;
    let odd = links
        .iter()
        .find(|link| link.kind.as_deref() == Some("bridge"));
    let odd = odd.ok_or("the bridge is not listed")?;
    assert_eq!((links.len(), odd.mtu), (2, 1400));
    assert_eq!(odd.name, "l\u{fffd}");
    assert_eq!(odd.alt_names, ["a\u{fffd}"]);
    assert_eq!(odd.alias.as_deref(), Some("B\u{fffd}ro"));
    assert_eq!(space.netlink.link_by_index(odd.index)?.as_ref(), Some(odd));
    until("a notification of the change", || match watch.next()? {
        LinkEvents::Changes { changed, .. } => Ok(changed.contains(odd).then_some(())),
        LinkEvents::None | LinkEvents::Overflow => Ok(None),
    })
}

fn a_link_with_hundreds_of_alternative_names_is_read_whole() -> Test {
    let space = Space::new()?;
    space.ip("link add br0 type bridge")?;
    let names = (0..400).map(|i| format!("link property add dev br0 altname {i:0>127}\n"));
    fs::write("/run/names", names.collect::<String>())?;
    space.ip("-batch /run/names")?;
    assert_eq!(space.link("br0")?.alt_names.len(), 400);
    assert_eq!(space.netlink.links()?.len(), 2);
    Ok(())
}

fn a_macvlan_with_thousands_of_sources_is_read_whole() -> Test {
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let sources: Vec<Mac> = (0..4000_u16)
        .map(u16::to_be_bytes)
        .map(|[high, low]| Mac([0x02, 0, 0, 0, high, low]))
        .collect();
    let new = NewMacvlan {
        mode: MacvlanMode::Source,
        sources: &sources,
        ..NewMacvlan::new("net1", parent.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    assert_eq!(
        link.macvlan.map_or(0, |macvlan| macvlan.sources.len()),
        4000
    );
    assert_eq!(container.netlink.links()?.len(), 2);
    Ok(())
}

/// The length of their list has 16 bits, and that of the list that theirs is in.
fn a_macvlan_with_more_sources_than_a_length_can_tell_is_known_as_one() -> Test {
    const FEW: u16 = 5440;
    let (host, container) = (Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?;
    let mac = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Mac([0x02, 0, 0, 0, high, low])
    };
    let sources: Vec<Mac> = (0..FEW).map(mac).collect();
    let new = NewMacvlan {
        mode: MacvlanMode::Source,
        sources: &sources,
        ..NewMacvlan::new("net1", parent.index)
    };
    let created = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    for number in FEW..FEW + 30 {
        container.ip(&format!(
            "link set net1 type macvlan macaddr add {}",
            mac(number)
        ))?;
        let links = container.netlink.links()?;
        let link = links.iter().find(|link| link.index == created.index);
        let link = link.ok_or("it is listed")?;
        assert_eq!(
            (link.name.as_str(), link.kind.as_deref()),
            ("net1", Some("macvlan")),
            "with {number} sources"
        );
    }
    Ok(())
}
