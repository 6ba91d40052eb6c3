//! The guard at ADD, CHECK, DEL and GC.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ipnet::Ipv4Net;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::STRACE;
use lab::serde_json::json;
use lab::suite::{Package, packages};
use lab::{Attachment, Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::NewAddress;
use linknet::nft::{Family, Nft, Table};

use super::{container, guarded};
use crate::macvlan::given;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(nft_shows_the_rules_with_their_reasons).needs(&[NFTABLES, packages::GO_PLUGINS]),
    test!(check_fails_when_the_guard_is_gone_or_changed).needs(&[packages::GO_PLUGINS]),
    test!(check_says_that_the_configuration_has_changed).needs(&[packages::GO_PLUGINS]),
    test!(del_leaves_nothing_and_gc_neither),
    test!(del_removes_a_guard_that_is_not_configured_any_more).needs(&[packages::GO_PLUGINS]),
    test!(a_table_that_a_program_owns_stops_neither_del_nor_gc).needs(&[NFTABLES]),
    test!(addresses_that_keep_changing_do_not_stop_del).within(Duration::from_secs(60)),
    test!(tables_of_others_stay).needs(&[packages::GO_PLUGINS]),
    test!(a_del_of_another_attachment_lifts_no_guard).needs(&[packages::GO_PLUGINS]),
    test!(the_guard_needs_addresses_to_know),
    test!(two_interfaces_have_a_guard_each).needs(&[packages::GO_PLUGINS]),
    test!(a_config_without_guard_opens_no_socket_for_it).needs(&[STRACE, packages::GO_PLUGINS]),
];

const NFTABLES: Package = Package::new("nftables", "nft");

const TABLE: &str = "leasehold-eth0";

fn tables(container: &Node) -> Result<Vec<String>> {
    let nft = Nft::open_in(container.netns())?;
    let mut names = Vec::new();
    for family in [Family::Netdev, Family::Inet] {
        let tables = nft.tables(family)?;
        names.extend(
            tables
                .into_iter()
                .map(|(name, _)| format!("{family} {name}")),
        );
    }
    Ok(names)
}

fn nft_shows_the_rules_with_their_reasons(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let guard = json!({ "allow": ["tcp/443", "udp/5000-5010", "from 10.1.0.0/16"] });
    let container = container(&lan, "c1", guard)?;
    let shown = container.output(&["nft", "list", "ruleset"])?;
    for text in [
        "table netdev leasehold-eth0",
        "comment \"leasehold:eth0/c1/lan\"",
        "hook egress device \"eth0\" priority filter; policy drop;",
        "comment \"ARP from 10.99.0.50\"",
        "meta mark 0x00002043",
        "!= 0xe0000002-0xe0000015",
        "comment \"UDP, but not as a DHCP server or a router\"",
        "hook prerouting priority mangle; policy accept;",
        "ct state established,related accept comment \"replies\"",
        "tcp dport 443 accept comment \"tcp/443\"",
        "udp dport 5000-5010 accept comment \"udp/5000-5010\"",
        "ip saddr 10.1.0.0/16 accept comment \"from 10.1.0.0/16\"",
    ] {
        ensure!(shown.contains(text), "no {text} in\n{shown}");
    }
    Ok(())
}

fn check_fails_when_the_guard_is_gone_or_changed(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let conflist = guarded(json!({ "allow": ["tcp/443"] }), &["10.99.0.50/24"]);
    let network = Network::new(&lan.host, conflist);
    let attachment = Attachment::new(&container);
    let nft = Nft::open_in(container.netns())?;
    let empty = |family| Table {
        family,
        name: TABLE.to_owned(),
        comment: "leasehold:eth0/c1/lan".to_owned(),
        chains: Vec::new(),
    };
    for family in [Family::Netdev, Family::Inet] {
        for change in [
            nft_delete as fn(&Nft, &Table) -> linknet::Result<()>,
            |nft, empty| nft.replace(std::slice::from_ref(empty)),
        ] {
            network.add(&attachment)?;
            network.check(&attachment)?;
            change(&nft, &empty(family))?;
            let error = network::cni_error(network.check(&attachment));
            let text = format!("{error:?}");
            ensure!(
                error.code == 110 && text.contains("eth0 is not as ADD made it: guard: "),
                "{text}"
            );
            network.del(&attachment)?;
        }
    }
    Ok(())
}

fn check_says_that_the_configuration_has_changed(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = |guard| Network::new(&lan.host, guarded(guard, &["10.99.0.50/24"]));
    let attachment = Attachment::new(&container);
    let added = network(json!({ "allow": ["tcp/443", "from 10.1.0.0/16"] }));
    let result = added.add(&attachment)?;
    added.check(&attachment)?;
    for (guard, now) in [
        (json!({ "allow": ["tcp/443"] }), "`allow` [\"tcp/443\"]"),
        (json!({ "allow": [] }), "`allow` []"),
        (json!(true), "no `allow`"),
    ] {
        let call = network(guard).prepare("CHECK", 0, &attachment, Some(&result))?;
        let error = call.run(&lan.host)?.error()?;
        let text = format!(
            "its rules are for `allow` [\"tcp/443\", \"from 10.1.0.0/16\"], and the configuration \
             has {now}; if that was changed since ADD, recreate the container"
        );
        ensure!(error.code == 110 && error.msg.contains(&text), "{error:?}");
    }
    Ok(())
}

fn nft_delete(nft: &Nft, table: &Table) -> linknet::Result<()> {
    nft.delete(table.family, &table.name)
}

fn del_leaves_nothing_and_gc_neither(world: &World) -> Result {
    let lan = Lan::new()?;
    let mut conflist = conflist(json!({ "guard": { "allow": [] } }));
    conflist["cniVersion"] = json!("1.1.0");
    let addresses = json!({ "ips": [{ "address": "10.99.0.50/24" }] });
    let network = given(world, &lan, conflist, &addresses)?;
    let (gone, valid) = (lan.container("gone")?, lan.container("valid")?);
    let [of_gone, of_valid] = [&gone, &valid].map(Attachment::new);
    for attachment in [&of_gone, &of_valid] {
        network.add(attachment)?;
    }
    ensure!(tables(&gone)?.len() == 2, "{:?}", tables(&gone)?);
    network.gc(&[&of_valid])?;
    ensure_nothing_left(&gone)?;
    network.check(&of_valid)?;
    // The interface is gone, and its table is left.
    network.add(&of_gone)?;
    gone.netlink()?.delete_link(gone.link("eth0")?.index)?;
    network.gc(&[&of_valid])?;
    ensure_nothing_left(&gone)?;
    network.check(&of_valid)?;
    network.del(&of_valid)?;
    ensure_nothing_left(&valid)
}

/// A network of CNI 1.1.0 with a guard, whose containers have the address 10.99.0.50.
fn guarded_1_1<'a>(world: &World, lan: &'a Lan) -> Result<Network<'a>> {
    let mut conflist = conflist(json!({ "guard": true, "sourceRouting": true }));
    conflist["cniVersion"] = json!("1.1.0");
    let addresses = json!({ "ips": [{ "address": "10.99.0.50/24" }] });
    given(world, lan, conflist, &addresses)
}

fn a_table_that_a_program_owns_stops_neither_del_nor_gc(world: &World) -> Result {
    let lan = Lan::new()?;
    let network = guarded_1_1(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let mut command = Command::new("nft");
    let mut thief = container.spawn(
        command
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    )?;
    let mut commands = thief.stdin.take().context("its input")?;
    commands.write_all(
        b"delete table netdev leasehold-eth0\n\
          add table netdev leasehold-eth0 { flags owner; comment \"leasehold:eth0/c1/lan\"; }\n",
    )?;
    let nft = Nft::open_in(container.netns())?;
    let owner = until("the program owns the table", SOON, || {
        nft.owner(Family::Netdev, TABLE).ok().flatten()
    })?;
    let is_gone = || -> Result<bool> { Ok(container.links()?.len() == 1) };
    network.del(&attachment)?;
    ensure!(is_gone()?, "{:?}", container.links()?);
    network.del(&attachment).context("a second DEL")?;
    network.gc(&[]).context("GC")?;
    let error = format!("{:?}", network::cni_error(network.add(&attachment)));
    let whose = format!(
        "table netdev leasehold-eth0 belongs to another program, and only that one may change it \
         (its netlink port, which is usually its process ID, is {owner})"
    );
    ensure!(error.contains(&whose), "{error}");
    ensure!(error.contains("end that program, which runs in"), "{error}");
    ensure!(!error.contains("removing eth0 failed too"), "{error}");
    ensure!(is_gone()?, "{:?}", container.links()?);
    ensure!(tables(&container)? == ["netdev leasehold-eth0"]);
    // The table ends with the program.
    drop(commands);
    thief.wait()?;
    network.add(&attachment)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn addresses_that_keep_changing_do_not_stop_del(world: &World) -> Result {
    const MANY: u32 = 6000;
    let lan = Lan::new()?;
    let network = guarded_1_1(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let index = container.link("eth0")?.index;
    let netlink = container.netlink()?;
    let address = |number| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number);
        NewAddress::new(Ipv4Net::from(address))
    };
    for number in 0..MANY {
        netlink.add_address(index, &address(number))?;
    }
    // More of them come, until the interface is gone.
    thread::scope(|scope| {
        let churn = scope.spawn(move || {
            (MANY..u32::MAX).find(|number| netlink.add_address(index, &address(*number)).is_err())
        });
        network.del(&attachment)?;
        ensure!(churn.join().is_ok_and(|end| end.is_some()));
        Ok(())
    })?;
    ensure_nothing_left(&container)
}

fn del_removes_a_guard_that_is_not_configured_any_more(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = container(&lan, "c1", json!({ "allow": ["tcp/443"] }))?;
    let without = guarded(json!(false), &["10.99.0.50/24"]);
    let network = Network::new(&lan.host, without);
    let attachment = Attachment::new(&container);
    network.del(&attachment)?;
    let nft = Nft::open_in(container.netns())?;
    for family in [Family::Netdev, Family::Inet] {
        let tables = nft.tables(family)?;
        ensure!(tables.is_empty(), "{tables:?}");
    }
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.del(&attachment)
}

fn tables_of_others_stay(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let theirs = Table {
        family: Family::Inet,
        name: "theirs".to_owned(),
        comment: String::new(),
        chains: Vec::new(),
    };
    let nft = Nft::open_in(container.netns())?;
    nft.replace(std::slice::from_ref(&theirs))?;
    let network = Network::new(
        &lan.host,
        guarded(json!({ "allow": [] }), &["10.99.0.50/24"]),
    );
    network.add(&Attachment::new(&container))?;
    network.del(&Attachment::new(&container))?;
    ensure!(
        tables(&container)? == ["inet theirs"],
        "{:?}",
        tables(&container)?
    );
    Ok(())
}

fn a_del_of_another_attachment_lifts_no_guard(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(
        &lan.host,
        guarded(json!({ "allow": [] }), &["10.99.0.50/24"]),
    );
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    network.del(&Attachment {
        container_id: "earlier".to_owned(),
        ..attachment.clone()
    })?;
    network.check(&attachment)
}

fn the_guard_needs_addresses_to_know(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    for (keys, problem) in [
        (json!({ "guard": true }), "guard needs ipam"),
        (
            json!({ "guard": { "allow": ["tpc/443"] } }),
            "guard.allow[0]: \"tpc/443\": the protocol before the slash is",
        ),
    ] {
        let network = Network::new(&lan.host, conflist(keys));
        let error = network::cni_error(network.add(&Attachment::new(&container)));
        ensure!(error.code == 7, "{error:?}");
        ensure!(
            format!("{error:?}").contains(&problem.replace('"', "\\\"")),
            "{error:?}"
        );
        ensure_nothing_left(&container)?;
    }
    Ok(())
}

fn two_interfaces_have_a_guard_each(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("pod")?;
    let [first, second] = ["eth0", "net1"].map(|ifname| Attachment {
        ifname: ifname.to_owned(),
        ..Attachment::new(&container)
    });
    let network = |address| Network::new(&lan.host, guarded(json!(true), &[address]));
    let (of_first, of_second) = (network("10.99.0.50/24"), network("10.99.0.51/24"));
    of_first.add(&first)?;
    of_second.add(&second)?;
    of_first.check(&first)?;
    of_second.check(&second)?;
    of_first.del(&first)?;
    of_second.check(&second)?;
    ensure!(
        tables(&container)? == ["netdev leasehold-net1"],
        "{:?}",
        tables(&container)?
    );
    Ok(())
}

fn a_config_without_guard_opens_no_socket_for_it(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let sockets = |guard| -> Result<usize> {
        let record = world.dir().join("record");
        let body = format!(
            "exec strace -f -qq -e trace=socket -o {} {}\n",
            record.display(),
            lab::suite::plugin_dir().join("macvlan").display()
        );
        let mut path = crate::macvlan::script(world, "macvlan", &body)?;
        path.swap(0, 1);
        let conflist = guarded(guard, &["10.99.0.50/24"]);
        let network = Network::with_path(&lan.host, conflist, path);
        let mut opened = 0;
        for verb in ["ADD", "CHECK", "DEL"] {
            match verb {
                "ADD" => network.add(&Attachment::new(&container)).map(drop)?,
                "CHECK" => network.check(&Attachment::new(&container))?,
                _ => network.del(&Attachment::new(&container))?,
            }
            let text = fs::read_to_string(&record).context("strace's record")?;
            opened += text.matches("NETLINK_NETFILTER").count();
        }
        Ok(opened)
    };
    ensure!(sockets(json!(true))? > 0, "a guard needs one");
    ensure!(sockets(json!(false))? == 0, "without a guard there is one");
    Ok(())
}
