//! Host access, and the lock.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use attachment::host_access::{
    AttachmentTag, HostAccess, HostAccessKey, HostRoute, Record, destinations, difference,
};
use attachment::{HostLock, SharedLink};
use cni::Attachment;
use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::{Lan, Result, Test, World, test};
use linknet::{Link, NewAddress, NewMacvlan, Scope};

use crate::container;

pub(crate) const TESTS: &[Test] = &[
    test!(two_attachments_share_the_shim_and_the_last_removes_it),
    test!(an_attachment_that_moves_to_another_parent_leaves_no_record),
    test!(an_unfinished_shim_is_completed),
    test!(a_withheld_route_leaves_its_record),
    test!(a_route_that_is_missing_is_named),
    test!(a_parent_that_is_gone_is_an_error),
    test!(a_parent_without_ipv6_has_a_shim),
    test!(the_hosts_source_is_an_address_that_others_reach),
    test!(the_host_is_not_led_to_its_name_server),
    test!(only_one_process_holds_the_lock_and_the_others_need_not_wait_forever),
    test!(a_child_of_the_process_that_had_the_lock_does_not_keep_it),
];

const ON_LINK: HostAccessKey = HostAccessKey::OnLink;

/// A LAN whose host has 10.99.0.2 and fd99::2 on its parent, and the parent's index.
fn lan() -> Result<(Lan, u32)> {
    let lan = Lan::with_ipv6()?;
    for address in ["10.99.0.2/24", "fd99::2/64"] {
        lan.host
            .add_address(Lan::MASTER, address.parse::<IpNet>()?)?;
    }
    let parent = lan.host.link(Lan::MASTER)?.index;
    Ok((lan, parent))
}

fn host_access(lan: &Lan) -> Result<HostAccess> {
    Ok(HostAccess::new(lan.host.netns(), HostLock::acquire()?)?)
}

fn tag(container_id: &str) -> Result<AttachmentTag> {
    let attachment = Attachment::new(container_id, "lan", "eth0")?;
    Ok(AttachmentTag::new(&attachment))
}

fn shim(lan: &Lan) -> Result<Link> {
    lan.host.netlink()?.link("lh-eth1")?.context("a shim")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn two_attachments_share_the_shim_and_the_last_removes_it(_: &World) -> Result {
    let (lan, parent) = lan()?;
    let host = lan.host.netlink()?;
    let (first, second) = (tag("c1")?, tag("c2")?);
    let addresses = [ip("10.99.0.61"), ip("fd99::61")];
    let reachable = host_access(&lan)?.attach(parent, first, &addresses, &ON_LINK)?;
    let from: Vec<_> = reachable.iter().map(|reachable| reachable.from).collect();
    ensure!(from == [Some(ip("10.99.0.2")), Some(ip("fd99::2"))]);
    let created = shim(&lan)?;
    ensure!(
        SharedLink::Shim.is(&created) && created.up && created.group == 0,
        "{created:?}"
    );
    // The link-local address that the kernel derives from the shim's MAC, for containers to use.
    let own = host.addresses(created.index)?;
    let own: Vec<IpAddr> = own.iter().map(|address| address.net.addr()).collect();
    ensure!(own == [reachable[0].shim], "{own:?}");

    // Attaching again changes nothing.
    for _ in 0..2 {
        host_access(&lan)?.attach(parent, second, &[ip("10.99.0.62")], &ON_LINK)?;
    }
    ensure!(shim(&lan)?.index == created.index);
    ensure!(HostRoute::all(&host)?.len() == 3);
    let records = Record::all(&host)?;
    for (tag, to) in [
        (first, addresses[0]),
        (first, addresses[1]),
        (second, ip("10.99.0.62")),
    ] {
        ensure!(records.contains(&Record { tag, to, parent }), "{records:?}");
    }
    ensure!(records.len() == 3, "{records:?}");
    let removed = host_access(&lan)?.detach(|tag, _| tag == first)?;
    ensure!(removed.len() == 2, "{removed:?}");
    ensure!(shim(&lan)?.index == created.index);
    let removed = host_access(&lan)?.detach_nowait(|tag, _| tag == second)?;
    ensure!(removed.len() == 1, "{removed:?}");
    ensure!(host.link("lh-eth1")?.is_none());
    // Neighbours who know its MAC find it again.
    host_access(&lan)?.attach(parent, first, &addresses, &ON_LINK)?;
    ensure!(shim(&lan)?.mac == created.mac);
    host_access(&lan)?.detach(|tag, _| tag == first)?;
    let left = host.routes_with_protocol(attachment::PROTOCOL)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn an_attachment_that_moves_to_another_parent_leaves_no_record(_: &World) -> Result {
    let (lan, parent) = lan()?;
    let host = lan.host.netlink()?;
    lan.host.add_bridge("eth2")?;
    lan.host.add_address("eth2", "10.99.0.3/24".parse()?)?;
    lan.host.set_up("eth2")?;
    let second = lan.host.link("eth2")?.index;
    let (tag, to) = (tag("c1")?, ip("10.99.0.61"));
    for parent in [parent, second] {
        host_access(&lan)?.attach(parent, tag, &[to], &ON_LINK)?;
        let records = Record::all(&host)?;
        ensure!(records == [Record { tag, to, parent }], "{records:?}");
        let routes = HostRoute::all(&host)?;
        let shim = host.link_by_index(routes[0].index)?.context("a shim")?;
        ensure!(
            routes.len() == 1 && shim.parent == Some(parent),
            "{routes:?}"
        );
    }
    Ok(())
}

fn an_unfinished_shim_is_completed(_: &World) -> Result {
    let (lan, parent) = lan()?;
    let host = lan.host.netlink()?;
    let new = NewMacvlan {
        group: SharedLink::UNFINISHED_GROUP,
        ..NewMacvlan::new("lh-eth1", parent)
    };
    let unfinished = host.add_macvlan(&new, lan.host.netns(), &host)?;
    host_access(&lan)?.attach(parent, tag("c1")?, &[ip("10.99.0.61")], &ON_LINK)?;
    let completed = shim(&lan)?;
    ensure!(
        completed.index == unfinished.index && completed.up && completed.group == 0,
        "{completed:?}"
    );
    let addresses = host.addresses(completed.index)?;
    ensure!(
        addresses.is_empty(),
        "no container needs IPv6: {addresses:?}"
    );
    Ok(())
}

fn only_one_process_holds_the_lock_and_the_others_need_not_wait_forever(_: &World) -> Result {
    let held = HostLock::acquire()?;
    let refused = HostLock::acquire_within(Duration::from_millis(20));
    let error = refused.err().context("it is held")?.to_string();
    ensure!(
        error.contains("leasehold.lock") && error.contains("another process holds it"),
        "{error}"
    );
    drop(held);
    HostLock::acquire_within(Duration::ZERO)?;
    Ok(())
}

/// DEL forks a child that outlives it by some milliseconds, with copies of its descriptors.
fn a_child_of_the_process_that_had_the_lock_does_not_keep_it(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    let held = HostLock::acquire()?;
    let new = NewMacvlan::new("shared", parent);
    let link = host.add_macvlan(&new, lan.host.netns(), &host)?;
    host.delete_link_nowait(lan.host.netns(), link.index)?;
    drop(held);
    HostLock::acquire_within(Duration::ZERO)?;
    Ok(())
}

fn a_withheld_route_leaves_its_record(_: &World) -> Result {
    let (lan, parent) = lan()?;
    let host = lan.host.netlink()?;
    let (first, second) = (tag("c1")?, tag("c2")?);
    let [withheld, other, anothers] = ["10.99.0.61", "10.99.0.63", "10.99.0.62"].map(ip);
    let access = host_access(&lan)?;
    access.attach(parent, first, &[withheld, other], &ON_LINK)?;
    access.attach(parent, second, &[anothers], &ON_LINK)?;
    let record = Record {
        tag: first,
        to: withheld,
        parent,
    };
    access.withhold(&record)?;
    let mut left: Vec<IpAddr> = access.routes()?.iter().map(|route| route.to).collect();
    left.sort();
    ensure!(left == [anothers, other], "{left:?}");
    ensure!(access.records()?.len() == 3);
    let all = [(first, withheld), (first, other), (second, anothers)];
    ensure!(destinations(&host)? == all.into_iter().collect());
    Ok(())
}

fn a_route_that_is_missing_is_named(_: &World) -> Result {
    let (lan, parent) = lan()?;
    let host = lan.host.netlink()?;
    let (_, interface) = container(&lan, "c1")?;
    let (tag, other) = (tag("c1")?, tag("c2")?);
    let address: IpNet = "10.99.0.61/24".parse()?;
    let missing = |tag| -> Result<String> {
        let difference = difference(&host, &interface, tag, &[address], &ON_LINK)?;
        Ok(difference.unwrap_or_default())
    };
    ensure!(missing(tag)?.starts_with("the host's own macvlan on eth1 is missing"));
    host_access(&lan)?.attach(parent, tag, &[address.addr()], &ON_LINK)?;
    ensure!(missing(tag)?.is_empty());
    let of_another = missing(other)?;
    ensure!(of_another.contains("is missing, because"), "{of_another}");
    lan.host.set_down("lh-eth1")?;
    ensure!(missing(tag)?.starts_with("the host's lh-eth1 is down"));
    // A shim that is down is set up by the next ADD.
    let access = host_access(&lan)?;
    access.attach(parent, tag, &[address.addr()], &ON_LINK)?;
    ensure!(missing(tag)?.is_empty());
    let record = Record {
        tag,
        to: address.addr(),
        parent,
    };
    access.withhold(&record)?;
    let expected = "the host's route to 10.99.0.61 through lh-eth1 is missing: GC restores it";
    ensure!(missing(tag)?.starts_with(expected));
    Ok(())
}

fn a_parent_that_is_gone_is_an_error(_: &World) -> Result {
    let (lan, _) = lan()?;
    let attached = host_access(&lan)?.attach(4711, tag("c1")?, &[ip("10.99.0.61")], &ON_LINK);
    let error = attached.err().context("there is no such link")?.to_string();
    ensure!(error.contains("macvlan on link 4711"), "{error}");
    Ok(())
}

fn the_host_is_not_led_to_its_name_server(world: &World) -> Result {
    let (lan, parent) = lan()?;
    let file = world.dir().join("resolv.conf");
    fs::write(&file, "nameserver 10.99.0.53\n")?;
    let file = file.display().to_string();
    lan.host
        .output(&["mount", "--bind", &file, "/etc/resolv.conf"])?;
    let refused = || -> Result<String> {
        let attached = host_access(&lan)?.attach(parent, tag("c1")?, &[ip("10.99.0.53")], &ON_LINK);
        Ok(attached.err().context("it is refused")?.to_string())
    };
    ensure!(refused()?.contains("a name server of the host"));
    // Without knowing its name servers, nothing can be admitted.
    fs::create_dir_all("/run/systemd/resolve/resolv.conf")?;
    let error = refused()?;
    ensure!(
        error.starts_with("read /run/systemd/resolve/resolv.conf"),
        "{error}"
    );
    Ok(())
}

fn a_parent_without_ipv6_has_a_shim(_: &World) -> Result {
    let (lan, parent) = lan()?;
    lan.host.netlink()?.set_mtu(parent, 1000)?; // too little for IPv6
    host_access(&lan)?.attach(parent, tag("c1")?, &[ip("10.99.0.61")], &ON_LINK)?;
    ensure!(shim(&lan)?.up);
    Ok(())
}

fn the_hosts_source_is_an_address_that_others_reach(_: &World) -> Result {
    let (lan, parent) = lan()?;
    lan.host.add_bridge("eth2")?;
    let without_address = lan.host.link("eth2")?.index;
    let of_the_link = NewAddress {
        scope: Scope::LINK,
        ..NewAddress::new("10.98.0.2/24".parse::<IpNet>()?)
    };
    lan.host.netlink()?.add_address(parent, &of_the_link)?;
    for (to, expected) in [
        (ip("10.99.0.61"), Some(ip("10.99.0.2"))),
        (ip("10.98.0.61"), None),
    ] {
        let key = HostAccessKey::Listed(vec![to.into()]);
        let reachable = host_access(&lan)?.attach(without_address, tag("c1")?, &[to], &key)?;
        ensure!(reachable[0].from == expected, "{reachable:?}");
    }
    Ok(())
}
