//! CHECK and GC.

use std::net::IpAddr;

use attachment::HostLock;
use attachment::host_access::{AttachmentTag, HostAccess, HostAccessKey, Record};
use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::plugin::Call;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::{NewMacvlan, Route};

use super::{
    HOST, HOST6, SHIM, container, ensure_host_is_clean, ensure_they_talk, lan, network_of, reached,
    shim, with_access,
};
use crate::macvlan::{plug, script};
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(check_fails_without_the_hosts_macvlan_or_route).needs(&[packages::GO_PLUGINS]),
    test!(gc_removes_the_routes_of_attachments_that_are_not_valid),
    test!(gc_keeps_routes_of_other_networks_and_links_in_use),
    test!(gc_keeps_the_route_to_a_container_attached_while_it_waited_for_the_lock),
    test!(gc_restores_a_removed_macvlan_and_its_routes),
    test!(gc_follows_the_hosts_address),
    test!(gc_without_a_list_touches_no_route),
    test!(gc_of_a_network_without_the_key_removes_an_unused_macvlan),
    test!(gc_forgets_the_containers_of_a_parent_that_is_gone),
];

/// A network of this name with `hostAccess` and these addresses, of the newest version (which
/// Debian's IPAM plugins do not know).
fn newest<'a>(world: &World, lan: &'a Lan, name: &str, addresses: &[&str]) -> Result<Network<'a>> {
    newest_on(Lan::MASTER, world, lan, name, addresses)
}

/// Like [`newest`], on this parent.
fn newest_on<'a>(
    master: &str,
    world: &World,
    lan: &'a Lan,
    name: &str,
    addresses: &[&str],
) -> Result<Network<'a>> {
    let ips: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "address": address }))
        .collect();
    let result = json!({ "cniVersion": "1.1.0", "ips": ips });
    let ipam = format!("gives-{}", addresses[0].replace('/', "-"));
    let body = format!("cat >/dev/null\n[ $CNI_COMMAND != ADD ] || echo '{result}'\n");
    let path = script(world, &ipam, &body)?;
    let mut conflist = with_access(json!({ "master": master, "ipam": { "type": ipam } }));
    conflist["cniVersion"] = json!("1.1.0");
    conflist["name"] = json!(name);
    Ok(Network::with_path(&lan.host, conflist, path))
}

/// A container of this name, attached.
fn attached(lan: &Lan, name: &str, network: &Network<'_>) -> Result<(Node, network::Attachment)> {
    let container = container(lan, name)?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    Ok((container, attachment))
}

/// The routes to containers that packets take.
fn host_routes(lan: &Lan) -> Result<Vec<Route>> {
    let mut routes = (lan.host.netlink()?).routes_with_protocol(attachment::PROTOCOL)?;
    routes.retain(|route| route.table == Route::MAIN);
    Ok(routes)
}

fn check_fails_without_the_hosts_macvlan_or_route(_: &World) -> Result {
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24", "fd99::61/64"]));
    let (_container, attachment) = attached(&lan, "c1", &network)?;
    network.check(&attachment)?;
    let differs = |word: &str| -> Result {
        let error = network::cni_error(network.check(&attachment));
        ensure!(error.code == 110 && error.msg.contains(word), "{error}");
        Ok(())
    };
    let routes = host_routes(&lan)?;
    for route in &routes {
        netlink.delete_route(route)?;
        differs(&format!(
            "the host's route to {} through lh-eth1 is missing: GC restores it, and so does",
            route.dst.addr()
        ))?;
        netlink.add_route(route)?;
    }
    ensure!(routes.len() == 2);
    network.check(&attachment)?;
    let index = shim(&lan)?.map_or(0, |shim| shim.index);
    lan.host.set_down(SHIM)?;
    differs("the host's lh-eth1 is down")?;
    netlink.delete_link(index)?;
    differs(
        "the host's own macvlan on eth1 is missing, with its routes to containers: GC restores",
    )?;
    // GC would remove it, too.
    let gateway = Route::new(
        "192.0.2.0/24".parse::<IpNet>()?,
        lan.host.link("eth1")?.index,
    );
    netlink.add_route(&gateway.via("10.99.0.61".parse::<IpAddr>()?))?;
    differs(
        "because the host must not be led to 10.99.0.61: it is a gateway of the host (if the \
         container is meant to have it, list the address itself",
    )
}

fn gc_removes_the_routes_of_attachments_that_are_not_valid(world: &World) -> Result {
    let lan = lan()?;
    let (kept, stale, vanished) = (
        newest(world, &lan, "lan", &["10.99.0.61/24"])?,
        newest(world, &lan, "lan", &["10.99.0.62/24"])?,
        newest(world, &lan, "lan", &["10.99.0.63/24", "fd99::63/64"])?,
    );
    let (container, attachment) = attached(&lan, "c1", &kept)?;
    let (other, _) = attached(&lan, "c2", &stale)?;
    let (gone, _) = attached(&lan, "c3", &vanished)?;
    gone.remove()?;
    ensure!(reached(&lan)?.len() == 4);
    kept.gc(&[&attachment])?;
    ensure_nothing_left(&other)?;
    ensure!(
        reached(&lan)? == ["10.99.0.61".parse::<IpAddr>()?],
        "{:?}",
        reached(&lan)?
    );
    ensure_they_talk(
        (&lan.host, HOST.into()),
        (&container, "10.99.0.61".parse()?),
    )?;
    kept.gc(&[])?;
    ensure_host_is_clean(&lan.host)
}

fn gc_keeps_routes_of_other_networks_and_links_in_use(world: &World) -> Result {
    let lan = lan()?;
    let (ours, theirs) = (
        newest(world, &lan, "lan", &["10.99.0.61/24"])?,
        newest(world, &lan, "wan", &["10.99.0.62/24"])?,
    );
    let (_one, _) = attached(&lan, "c1", &ours)?;
    let (two, _) = attached(&lan, "c2", &theirs)?;
    two.remove()?;
    ours.gc(&[])?;
    ensure!(
        reached(&lan)? == ["10.99.0.62".parse::<IpAddr>()?],
        "no business of this network's"
    );
    theirs.gc(&[])?;
    ensure_host_is_clean(&lan.host)?;

    // Another network's tag looks like one of ours, and its container can be seen.
    let name = (0..10_000)
        .map(|nth| format!("wan{nth}"))
        .find(|name| is_alike(name))
        .context("one of a thousand is")?;
    let alike = newest(world, &lan, &name, &["10.99.0.63/24"])?;
    let (three, attachment) = attached(&lan, "c3", &alike)?;
    ours.gc(&[])?;
    ensure!(reached(&lan)? == ["10.99.0.63".parse::<IpAddr>()?]);
    three.remove()?;
    ours.gc(&[])?;
    ensure_host_is_clean(&lan.host)?;
    alike.del(&attachment)
}

/// Whether an attachment to the network of this name has a tag like one to "lan".
fn is_alike(network: &str) -> bool {
    cni::Attachment::new("c3", network, "eth0")
        .is_ok_and(|attachment| AttachmentTag::new(&attachment).is_of("lan"))
}

fn gc_keeps_the_route_to_a_container_attached_while_it_waited_for_the_lock(_: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let lock = HostLock::acquire()?;
    let conflist = with_access(json!({ "ipam": { "type": "dhcp" } }));
    let mut config = conflist["plugins"][0].clone();
    config["name"] = json!("lan");
    config["cniVersion"] = json!("1.1.0");
    config["cni.dev/valid-attachments"] = json!([]);
    let gc = Call::new("macvlan", "GC")
        .config(&config)
        .start(&lan.host)?;
    // The kernel knows no wait for a lock with a deadline, so a thread of GC's waits.
    let threads = format!("/proc/{}/task", gc.pid());
    until("GC waits for the lock", SOON, || {
        std::fs::read_dir(&threads).is_ok_and(|threads| threads.count() == 2)
    })?;
    // What ADD does in the meantime: the first macvlan of the host on this parent.
    let parent = lan.host.link(Lan::MASTER)?.index;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new("eth0", parent)
    };
    let host = lan.host.netlink()?;
    host.add_macvlan(&new, container.netns(), &container.netlink()?)?;
    container.add_address("eth0", "10.99.0.61/24".parse()?)?;
    let tag = AttachmentTag::new(&cni::Attachment::new("c1", "lan", "eth0")?);
    let address: IpAddr = "10.99.0.61".parse()?;
    HostAccess::new(lan.host.netns(), lock)?.attach(
        parent,
        tag,
        &[address],
        &HostAccessKey::OnLink,
    )?;
    gc.finish()?.success()?;
    ensure!(reached(&lan)? == [address], "{:?}", reached(&lan)?);
    Ok(())
}

fn gc_restores_a_removed_macvlan_and_its_routes(world: &World) -> Result {
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let network = newest(world, &lan, "lan", &["10.99.0.61/24", "fd99::61/64"])?;
    let (container, attachment) = attached(&lan, "c1", &network)?;
    for what in ["routes", "down", "link"] {
        let index = shim(&lan)?.map_or(0, |shim| shim.index);
        match what {
            "routes" => {
                for route in host_routes(&lan)? {
                    netlink.delete_route(&route)?;
                }
            }
            "down" => lan.host.set_down(SHIM)?,
            _ => netlink.delete_link(index)?,
        }
        ensure!(network.check(&attachment).is_err(), "{what}");
        network.gc(&[&attachment])?;
        network.check(&attachment)?;
        ensure_they_talk(
            (&lan.host, HOST.into()),
            (&container, "10.99.0.61".parse()?),
        )?;
        ensure_they_talk((&lan.host, HOST6.into()), (&container, "fd99::61".parse()?))?;
    }
    let inside = container.netlink()?;
    let back = || -> Result<Vec<Route>> {
        let mut routes = inside.routes_with_protocol(attachment::PROTOCOL)?;
        routes.retain(|route| route.dst.addr() == HOST6);
        Ok(routes)
    };
    let routes = back()?;
    ensure!(!routes.is_empty(), "the container needs one to answer");
    for route in &routes {
        inside.delete_route(route)?;
    }
    network.gc(&[&attachment])?;
    ensure!(back()? == routes);
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

fn gc_follows_the_hosts_address(world: &World) -> Result {
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let network = newest(world, &lan, "lan", &["10.99.0.61/24"])?;
    let (container, attachment) = attached(&lan, "c1", &network)?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    netlink.delete_address(parent, format!("{HOST}/24").parse::<IpNet>()?)?;
    ensure!(
        reached(&lan)?.is_empty(),
        "the kernel takes a route away with the address that it names"
    );
    // Not beside the container any more: GC says why it sets no route, and remembers it.
    lan.host.add_address(Lan::MASTER, "10.50.0.9/24".parse()?)?;
    network.gc(&[&attachment])?;
    ensure!(reached(&lan)?.is_empty() && shim(&lan)?.is_none());
    lan.host.add_address(Lan::MASTER, "10.99.0.9/24".parse()?)?;
    network.gc(&[&attachment])?;
    ensure_they_talk(
        (&lan.host, "10.99.0.9".parse()?),
        (&container, "10.99.0.61".parse()?),
    )
}

fn gc_without_a_list_touches_no_route(world: &World) -> Result {
    let lan = lan()?;
    let (container, _) = attached(&lan, "c1", &newest(world, &lan, "lan", &["10.99.0.61/24"])?)?;
    container.remove()?;
    let config = json!({
        "cniVersion": "1.1.0",
        "name": "lan",
        "type": "macvlan",
        "master": Lan::MASTER,
        "hostAccess": true,
        "ipam": { "type": "gives-10.99.0.61-24" },
    });
    let bin = world.dir().join("bin");
    let call = Call::new("macvlan", "GC").env("CNI_PATH", &bin.display().to_string());
    call.config(&config).run(&lan.host)?.success()?;
    ensure!(reached(&lan)?.len() == 1 && shim(&lan)?.is_some());
    Ok(())
}

fn gc_of_a_network_without_the_key_removes_an_unused_macvlan(world: &World) -> Result {
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let network = newest(world, &lan, "lan", &["10.99.0.61/24"])?;
    let (_container, _) = attached(&lan, "c1", &network)?;
    for route in netlink.routes_with_protocol(attachment::PROTOCOL)? {
        netlink.delete_route(&route)?;
    }
    ensure!(shim(&lan)?.is_some());
    let mut other = conflist(json!({}));
    other["cniVersion"] = json!("1.1.0");
    other["name"] = json!("wan");
    Network::new(&lan.host, other).gc(&[])?;
    ensure_host_is_clean(&lan.host)
}

fn gc_forgets_the_containers_of_a_parent_that_is_gone(world: &World) -> Result {
    const SECOND: &str = "eth2";
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let second = plug(&lan, &lan.host, SECOND)?;
    lan.host.add_address(SECOND, "10.98.0.2/24".parse()?)?;
    let network = newest(world, &lan, "lan", &["10.99.0.61/24"])?;
    let (_one, one) = attached(&lan, "c1", &network)?;
    let on_second = newest_on(SECOND, world, &lan, "lan", &["10.98.0.62/24"])?;
    let (_two, two) = attached(&lan, "c2", &on_second)?;
    // The container has an address on the other parent, too.
    let first = lan.host.link(Lan::MASTER)?.index;
    let tag = AttachmentTag::new(&cni::Attachment::new("c2", "lan", "eth0")?);
    let other: IpAddr = "10.99.0.63".parse()?;
    let key = HostAccessKey::OnLink;
    HostAccess::new(lan.host.netns(), HostLock::acquire()?)?.attach(first, tag, &[other], &key)?;

    netlink.delete_link(second.index)?;
    network.gc(&[&one, &two])?;
    let records = Record::all(&netlink)?;
    let of: Vec<_> = records
        .iter()
        .map(|record| (record.to, record.parent))
        .collect();
    let expected = [("10.99.0.61".parse()?, first), (other, first)];
    ensure!(
        of.len() == 2 && expected.iter().all(|record| of.contains(record)),
        "{of:?}"
    );
    ensure!(reached(&lan)? == expected.map(|(to, _)| to));
    Ok(())
}
