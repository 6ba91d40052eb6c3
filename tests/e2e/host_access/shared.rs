//! One macvlan on the host for all containers of a parent: made for the first, removed with the
//! last.

use std::thread;
use std::time::Duration;

use attachment::SharedLink;
use lab::anyhow::{Context, anyhow, ensure};
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::NewMacvlan;
use nix::mount::{MsFlags, mount};

use super::{
    HOST, SHIM, container, ensure_host_is_clean, ensure_they_talk, lan, lock_is_free, network_of,
    reached, shim, with_access,
};
use crate::macvlan::{given, knows_no_other_mac, script};
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(two_containers_share_the_hosts_macvlan_and_the_last_removes_it)
        .needs(&[packages::GO_PLUGINS]),
    test!(a_recreated_container_is_reached_at_once)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(two_networks_share_the_hosts_macvlan).needs(&[packages::GO_PLUGINS]),
    test!(a_failed_add_leaves_no_macvlan_on_the_host),
    test!(del_removes_the_route_even_without_netns_or_interface).needs(&[packages::GO_PLUGINS]),
    test!(removing_the_parent_removes_everything).needs(&[packages::GO_PLUGINS]),
    test!(a_foreign_link_of_the_same_name_is_left_alone).needs(&[packages::GO_PLUGINS]),
    test!(a_renamed_or_downed_macvlan_on_the_host_is_found_and_used).needs(&[packages::GO_PLUGINS]),
    test!(sixty_four_containers_come_and_go_at_once).within(Duration::from_secs(120)),
];

fn two_containers_share_the_hosts_macvlan_and_the_last_removes_it(_: &World) -> Result {
    let lan = lan()?;
    let (one, two) = (container(&lan, "c1")?, container(&lan, "c2")?);
    let first = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    let second = Network::new(&lan.host, network_of(&["10.99.0.62/24", "fd99::62/64"]));
    first.add(&network::Attachment::new(&one))?;
    let made = shim(&lan)?.context("a shim")?;
    second.add(&network::Attachment::new(&two))?;
    ensure!(shim(&lan)?.is_some_and(|there| there.index == made.index && there.mac == made.mac));
    ensure!(reached(&lan)?.len() == 3);
    for (container, address) in [(&one, "10.99.0.61"), (&two, "10.99.0.62")] {
        ensure_they_talk((&lan.host, HOST.into()), (container, address.parse()?))?;
    }
    first.del(&network::Attachment::new(&one))?;
    ensure_they_talk((&lan.host, HOST.into()), (&two, "10.99.0.62".parse()?))?;
    second.del(&network::Attachment::new(&two))?;
    ensure_host_is_clean(&lan.host)?;

    // Neighbours that remember it are right about the next one.
    first.add(&network::Attachment::new(&one))?;
    ensure!(shim(&lan)?.context("a shim")?.mac == made.mac);
    Ok(())
}

/// It has another MAC at the same address, and the host has just spoken to its predecessor.
fn a_recreated_container_is_reached_at_once(_: &World) -> Result {
    let lan = lan()?;
    let (one, two) = (container(&lan, "c1")?, container(&lan, "c2")?);
    let stays = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    stays.add(&network::Attachment::new(&one))?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.62/24"]));
    let attachment = network::Attachment::new(&two);
    for _ in 0..3 {
        network.add(&attachment)?;
        let mac = two.link("eth0")?.mac.context("a MAC")?.to_string();
        until("no neighbour entry has another MAC", SOON, || {
            knows_no_other_mac(&lan.host, "10.99.0.62", &mac)
        })?;
        lan.host.ping("10.99.0.62".parse()?, SOON)?;
        network.del(&attachment)?;
    }
    Ok(())
}

fn two_networks_share_the_hosts_macvlan(_: &World) -> Result {
    let lan = lan()?;
    let both = container(&lan, "c1")?;
    let mut wan = network_of(&["10.99.0.62/24"]);
    wan["name"] = json!("wan");
    let (lan_network, wan_network) = (
        Network::new(&lan.host, network_of(&["10.99.0.61/24"])),
        Network::new(&lan.host, wan),
    );
    let eth0 = network::Attachment::new(&both);
    let net1 = network::Attachment {
        ifname: "net1".to_owned(),
        ..eth0.clone()
    };
    lan_network.add(&eth0)?;
    wan_network.add(&net1)?;
    ensure!(reached(&lan)?.len() == 2);
    lan_network.del(&eth0)?;
    ensure!(reached(&lan)?.len() == 1 && shim(&lan)?.is_some());
    lan.host.ping("10.99.0.62".parse()?, SOON)?;
    wan_network.del(&net1)?;
    ensure_host_is_clean(&lan.host)
}

/// Refused by the kernel before and after there is a shim, and by IPAM.
fn a_failed_add_leaves_no_macvlan_on_the_host(world: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let attachment = network::Attachment::new(&container);
    let failing = |network: &Network<'_>| -> Result {
        ensure!(network.add(&attachment).is_err());
        ensure_nothing_left(&container)?;
        ensure_host_is_clean(&lan.host)?;
        ensure!(lock_is_free());
        Ok(())
    };
    // Left by a killed ADD, and removed even if the next one fails.
    let good = given(
        world,
        &lan,
        with_access(json!({})),
        &json!({ "ips": [{ "address": "10.99.0.61/24" }] }),
    )?;
    good.add(&attachment)?;
    container
        .netlink()?
        .delete_link(container.link("eth0")?.index)?;
    ensure!(reached(&lan)?.len() == 1);
    let path = script(
        world,
        "broken",
        "cat >/dev/null\necho '{\"code\":123,\"msg\":\"no\"}'\nexit 1\n",
    )?;
    failing(&Network::with_path(
        &lan.host,
        with_access(json!({ "ipam": { "type": "broken" } })),
        path,
    ))?;

    // The shim is made, and cannot be made right.
    let made = given(
        world,
        &lan,
        with_access(json!({})),
        &json!({ "ips": [{ "address": "10.99.0.61/24" }] }),
    )?;
    let (sysctls, none) = ("/proc/sys", None::<&str>);
    mount(Some(sysctls), sysctls, none, MsFlags::MS_BIND, none)?;
    let same = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        none,
        sysctls,
        none,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | same,
        none,
    )?;
    failing(&made)
}

fn del_removes_the_route_even_without_netns_or_interface(_: &World) -> Result {
    let lan = lan()?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24", "fd99::61/64"]));
    for how in ["netns", "interface", "no netns told"] {
        let container = container(&lan, "c1")?;
        let attachment = network::Attachment::new(&container);
        network.add(&attachment)?;
        match how {
            "netns" => container.remove()?,
            "interface" => {
                container
                    .netlink()?
                    .delete_link(container.link("eth0")?.index)?;
                container.remove()?;
            }
            _ => container.remove()?,
        }
        ensure!(shim(&lan)?.is_some(), "{how}");
        let netns = attachment.netns.clone().filter(|_| how != "no netns told");
        network.del(&network::Attachment {
            netns,
            ..attachment
        })?;
        ensure_host_is_clean(&lan.host).context(how)?;
    }
    Ok(())
}

fn removing_the_parent_removes_everything(_: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    lan.host
        .netlink()?
        .delete_link(lan.host.link(Lan::MASTER)?.index)?;
    ensure!(reached(&lan)?.is_empty() && shim(&lan)?.is_none());
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

fn a_foreign_link_of_the_same_name_is_left_alone(_: &World) -> Result {
    let lan = lan()?;
    let host = lan.host.netlink()?;
    let theirs = NewMacvlan {
        up: true,
        ..NewMacvlan::new(SHIM, lan.host.link(Lan::MASTER)?.index)
    };
    let theirs = host.add_macvlan(&theirs, lan.host.netns(), &host)?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    let attachment = network::Attachment::new(&container);
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 7
            && error.msg.contains(SHIM)
            && error.msg.contains("leasehold did not create"),
        "{error}"
    );
    ensure_nothing_left(&container)?;
    network.del(&attachment)?;
    let now = lan.host.link(SHIM)?;
    ensure!(
        (now.index, &now.alias, now.up) == (theirs.index, &theirs.alias, theirs.up),
        "{now:?}"
    );
    Ok(())
}

fn a_renamed_or_downed_macvlan_on_the_host_is_found_and_used(_: &World) -> Result {
    let lan = lan()?;
    let (one, two) = (container(&lan, "c1")?, container(&lan, "c2")?);
    let first = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    first.add(&network::Attachment::new(&one))?;
    let made = shim(&lan)?.context("a shim")?;
    lan.host.set_down(&made.name)?;
    lan.host.rename(&made.name, "other")?;
    let second = Network::new(&lan.host, network_of(&["10.99.0.62/24"]));
    second.add(&network::Attachment::new(&two))?;
    ensure!(
        lan.host
            .links()?
            .iter()
            .filter(|link| SharedLink::Shim.is(link))
            .count()
            == 1
    );
    ensure_they_talk((&lan.host, HOST.into()), (&two, "10.99.0.62".parse()?))?;
    second.del(&network::Attachment::new(&two))?;
    first.del(&network::Attachment::new(&one))?;
    ensure_host_is_clean(&lan.host)
}

/// All ADD, then all DEL, then each ADD and DEL among the others'.
fn sixty_four_containers_come_and_go_at_once(world: &World) -> Result {
    const NUMBER: usize = 64;
    let lan = lan()?;
    let containers: Vec<Node> = (0..NUMBER)
        .map(|nth| lan.container(&format!("c{nth}")))
        .collect::<Result<_>>()?;
    let body = "cat >/dev/null\n[ $CNI_COMMAND != ADD ] || \
                echo \"{\\\"cniVersion\\\":\\\"1.0.0\\\",\\\"ips\\\":[{\\\"address\\\":\\\"10.99.1.${CNI_CONTAINERID#c}/16\\\"}]}\"\n";
    let path = script(world, "numbered", body)?;
    let mut conflist = with_access(json!({ "ipam": { "type": "numbered" } }));
    conflist["plugins"][0]["hostAccess"] = json!(["10.99.1.0/24"]);
    let network = || Network::with_path(&lan.host, conflist.clone(), path.clone());
    let all = |work: &(dyn Fn(&Network<'_>, &network::Attachment) -> Result + Sync)| -> Result {
        thread::scope(|scope| {
            let started: Vec<_> = containers
                .iter()
                .map(|container| {
                    scope.spawn(|| work(&network(), &network::Attachment::new(container)))
                })
                .collect();
            for outcome in started {
                outcome.join().map_err(|_| anyhow!("a caller panicked"))??;
            }
            Ok(())
        })
    };
    all(&|network, attachment| network.add(attachment).map(drop))?;
    ensure!(
        lan.host
            .links()?
            .iter()
            .filter(|link| SharedLink::Shim.is(link))
            .count()
            == 1
    );
    ensure!(reached(&lan)?.len() == NUMBER, "{:?}", reached(&lan)?);
    for (nth, container) in containers.iter().enumerate() {
        let address = format!("10.99.1.{nth}").parse()?;
        ensure_they_talk((&lan.host, HOST.into()), (container, address))?;
    }
    all(&|network, attachment| network.del(attachment))?;
    ensure_host_is_clean(&lan.host)?;
    for _ in 0..3 {
        all(&|network, attachment| {
            network.add(attachment)?;
            lan.host.ping(
                format!("10.99.1.{}", &attachment.container_id[1..]).parse()?,
                SOON,
            )?;
            network.del(attachment)
        })?;
        ensure_host_is_clean(&lan.host)?;
    }
    Ok(())
}
