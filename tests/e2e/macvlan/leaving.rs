//! DEL removes everything of the attachment, even if other things are gone or broken, and nothing
//! else.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use attachment::{HostLock, OwnerMark};
use cni::Attachment;
use lab::anyhow::{Context, ensure};
use lab::plugin::{DEBIANS_PLUGINS, Outcome};
use lab::serde_json::{Value, json};
use lab::suite::{packages, plugin_dir};
use lab::{Lan, Network, Process, Result, Test, World, network, test, until};
use linknet::NewMacvlan;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, mkfifo};

use super::{given, plug, script};
use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(del_removes_the_interface_even_if_ipam_fails),
    test!(del_removes_the_interface_even_if_the_daemon_is_down),
    test!(del_removes_the_interface_even_if_the_hosts_lock_cannot_be_had)
        .within(Duration::from_secs(120)),
    test!(the_addresses_are_gone_when_ipam_gives_them_back),
    test!(links_that_keep_changing_do_not_stop_del).within(Duration::from_secs(120)),
    test!(del_works_with_malformed_arguments),
    test!(the_netns_can_be_unmounted_right_after_del),
    test!(an_add_without_the_hosts_lock_ends_and_releases_nothing_in_use)
        .within(Duration::from_secs(180)),
    test!(the_hosts_lock_is_free_while_ipam_gives_addresses_back),
    test!(del_leaves_no_zombie_where_nobody_reaps),
    test!(del_succeeds_when_the_parent_is_gone),
    test!(del_succeeds_when_the_netns_is_gone),
    test!(another_interface_of_that_name_is_left_alone),
    test!(another_networks_macvlan_of_that_name_is_left_alone),
    test!(a_renamed_interface_is_recognized_by_its_alias),
    test!(an_interface_without_mark_and_name_is_recognized_by_mac_and_parent),
    test!(other_interfaces_with_the_reported_mac_are_left_alone),
    test!(an_address_is_taken_off_among_many_that_the_container_has_added),
    test!(an_interface_with_too_many_addresses_is_removed_before_they_are_given_back),
    test!(the_hosts_own_interfaces_are_never_touched),
    test!(an_interface_made_by_the_go_plugin_is_checked_and_removed).needs(&[packages::GO_PLUGINS]),
    test!(a_finished_interface_has_its_alias_and_the_default_group),
    test!(an_add_whose_result_is_lost_after_a_del_undoes_nothing_more),
];

fn made(lan: &Lan, name: &str, conflist: &Value) -> Result<(lab::Node, Value)> {
    let container = lan.container(name)?;
    let network = Network::new(&lan.host, conflist.clone());
    let result = network.add(&network::Attachment::new(&container))?;
    Ok((container, result))
}

fn links_that_keep_changing_do_not_stop_del(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let run = |name: &str, commands: String| -> Result<Command> {
        let batch = world.dir().join(name);
        fs::write(&batch, commands)?;
        let mut ip = Command::new("ip");
        ip.args(["-force", "-batch"]).arg(batch);
        Ok(ip)
    };
    // So many that the kernel lists them in several parts, between which others come and go.
    let bridges = |numbers: Range<u32>| {
        let add = numbers.map(|number| format!("link add b{number} type bridge\n"));
        add.collect::<String>()
    };
    let many = container
        .spawn(&mut run("many", bridges(0..200))?)?
        .wait()?;
    ensure!(many.success());
    let more = run("more", bridges(200..800))?;
    let mut churn = Process::spawn(world, &container, "ip", more)?;
    churn.until("links are added", SOON, || {
        container.find_link("b200").is_ok_and(|link| link.is_some())
    })?;

    let network = Network::new(&lan.host, conflist(json!({})));
    let attachment = network::Attachment::new(&container);
    for _ in 0..2 {
        network.add(&attachment)?;
        network.del(&attachment)?;
        let left = container.find_link("eth0")?;
        ensure!(left.is_none(), "the interface is still there: {left:?}");
    }
    Ok(())
}

fn the_addresses_are_gone_when_ipam_gives_them_back(world: &World) -> Result {
    let lan = Lan::new()?;
    let ips = json!([{ "address": "10.99.0.50/24" }, { "address": "fd99::50/64" }]);
    let result = json!({ "cniVersion": "1.0.0", "ips": ips });
    let seen = world.dir().join("seen");
    // At DEL and GC it notes the addresses of both containers.
    let body = format!(
        "cat >/dev/null\ncase $CNI_COMMAND in\nADD) echo '{result}';;\n\
         *) for c in c1 c2; do [ ! -e /run/netns/$c ] ||\n\
         nsenter --net=/run/netns/$c cat /proc/net/fib_trie /proc/net/if_inet6; done >>{seen};;\nesac\n",
        seen = seen.display()
    );
    let path = script(world, "noting", &body)?;
    let mut conflist = conflist(json!({ "ipam": { "type": "noting" } }));
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::with_path(&lan.host, conflist, path);
    for (name, verb) in [("c1", "DEL"), ("c2", "GC")] {
        let container = lan.container(name)?;
        let attachment = network::Attachment::new(&container);
        network.add(&attachment)?;
        match verb {
            "DEL" => network.del(&attachment)?,
            _ => network.gc(&[])?,
        }
        ensure_nothing_left(&container)?;
        let noted = fs::read_to_string(&seen)?;
        ensure!(
            noted.contains("127.0.0.1") && !noted.contains("10.99.0.50") && !noted.contains("fd99"),
            "at {verb}: {noted}"
        );
    }
    Ok(())
}

/// A network with `hostAccess` whose IPAM plugin gives this result. At DEL it creates the file
/// `asked` and waits until somebody writes to the pipe `answer`.
struct SlowIpam<'a> {
    lan: &'a Lan,
    network: Network<'a>,
    asked: PathBuf,
    answer: PathBuf,
}

impl<'a> SlowIpam<'a> {
    fn new(world: &World, lan: &'a Lan, result: &Value) -> Result<SlowIpam<'a>> {
        let [asked, answer] = ["asked", "answer"].map(|name| world.dir().join(name));
        if !answer.exists() {
            mkfifo(&answer, Mode::S_IRWXU)?;
        }
        let body = format!(
            "cat >/dev/null\ncase $CNI_COMMAND in\nADD) echo '{result}';;\n\
             DEL) : >{}; read line <{};;\nesac\n",
            asked.display(),
            answer.display()
        );
        let path = script(world, "slow", &body)?;
        let keys = json!({ "hostAccess": ["10.99.0.0/24"], "ipam": { "type": "slow" } });
        Ok(SlowIpam {
            lan,
            network: Network::with_path(&lan.host, conflist(keys), path),
            asked,
            answer,
        })
    }

    /// Takes the host's lock while IPAM's DEL runs in this call of the plugin.
    fn lock_during(&self, verb: &str, attachment: &network::Attachment) -> Result<Outcome> {
        let result = self.network.cached(attachment);
        let call = self.network.prepare(verb, 0, attachment, result.as_ref())?;
        let running = call.start(&self.lan.host)?;
        until("IPAM's DEL runs", SOON, || self.asked.exists())?;
        drop(HostLock::acquire().with_context(|| format!("during {verb}"))?);
        fs::write(&self.answer, "go on\n")?;
        fs::remove_file(&self.asked)?;
        running.finish()
    }
}

fn the_hosts_lock_is_free_while_ipam_gives_addresses_back(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let address = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.50/24" }] });
    let slow = SlowIpam::new(world, &lan, &address)?;
    slow.network.add(&attachment)?;
    slow.lock_during("DEL", &attachment)?.success()?;
    ensure_nothing_left(&container)?;

    // An interrupted ADD has left an interface behind, and the next one replaces it.
    let (host, inside) = (lan.host.netlink()?, container.netlink()?);
    let owner = Attachment::new("c1", "lan", "eth0")?;
    let unfinished = NewMacvlan {
        group: OwnerMark::new(&owner).group,
        ..NewMacvlan::new("eth0", lan.host.link(Lan::MASTER)?.index)
    };
    host.add_macvlan(&unfinished, container.netns(), &inside)?;
    slow.lock_during("ADD", &attachment)?.success()?;
    slow.lock_during("DEL", &attachment)?.success()?;

    // This ADD fails after IPAM's.
    let none = json!({ "cniVersion": "1.0.0", "ips": [] });
    let slow = SlowIpam::new(world, &lan, &none)?;
    let error = slow.lock_during("ADD", &attachment)?.error()?;
    ensure!(error.msg.contains("assigned no address"), "{error:?}");
    ensure_nothing_left(&container)
}

/// A process that was stopped holds the lock.
fn an_add_without_the_hosts_lock_ends_and_releases_nothing_in_use(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let seen = world.dir().join("seen");
    let body = format!(
        "cat >/dev/null\ncase $CNI_COMMAND in\n\
         ADD) echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.99.0.50/24\"}}]}}';;\n\
         *) nsenter --net=$CNI_NETNS cat /proc/net/fib_trie >{seen};;\nesac\n",
        seen = seen.display()
    );
    let path = script(world, "noting", &body)?;
    let keys = json!({ "hostAccess": ["10.99.0.0/24"], "ipam": { "type": "noting" } });
    let network = Network::with_path(&lan.host, conflist(keys), path);
    let lock = HostLock::acquire()?;
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 11 && error.msg.contains("leasehold.lock"),
        "{error:?}"
    );
    drop(lock);
    let noted = fs::read_to_string(&seen).context("IPAM has given the address back")?;
    ensure!(
        noted.contains("127.0.0.1") && !noted.contains("10.99.0.50"),
        "the interface still had it: {noted}"
    );
    ensure_nothing_left(&container)?;
    ensure_host_is_clean(&lan.host)
}

fn del_removes_the_interface_even_if_ipam_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let path = script(
        world,
        "broken",
        "cat >/dev/null\necho '{\"code\":123,\"msg\":\"no\"}'\nexit 1\n",
    )?;
    let network = Network::with_path(
        &lan.host,
        conflist(json!({ "ipam": { "type": "broken" } })),
        path,
    );
    let error = network::cni_error(network.del(&network::Attachment::new(&container)));
    ensure!(
        error.code == 123 && error.msg == "no",
        "the runtime hears of it: {error:?}"
    );
    ensure_nothing_left(&container)
}

fn del_removes_the_interface_even_if_the_daemon_is_down(world: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": world.dir().join("nobody.sock") });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    network.del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)
}

fn del_removes_the_interface_even_if_the_hosts_lock_cannot_be_had(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let conflist = conflist(json!({ "hostAccess": ["10.99.0.0/24"] }));
    let result = json!({ "ips": [{ "address": "10.99.0.60/24" }] });
    let network = given(world, &lan, conflist, &result)?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let lock = HostLock::acquire()?;
    let error = network::cni_error(network.del(&attachment));
    ensure!(
        error.code == 11 && error.msg.contains("leasehold.lock"),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    drop(lock);
    network.del(&attachment)
}

fn del_works_with_malformed_arguments(_: &World) -> Result {
    let lan = Lan::new()?;
    let good = conflist(json!({}));
    let args = ["MAC", "=x", "a;b=c"].map(|args| (args, json!({})));
    let objects = [json!({ "args": 5 }), json!({ "args": { "cni": [] } })];
    let objects = objects.map(|keys| ("", keys));
    for (args, keys) in args.into_iter().chain(objects) {
        let (container, _) = made(&lan, "c1", &good)?;
        let network = Network::new(&lan.host, conflist(keys.clone()));
        network
            .del(&network::Attachment {
                args: args.to_owned(),
                ..network::Attachment::new(&container)
            })
            .with_context(|| format!("{args:?}, {keys}"))?;
        ensure_nothing_left(&container)?;
        container.remove()?;
    }
    Ok(())
}

fn the_netns_can_be_unmounted_right_after_del(world: &World) -> Result {
    let lan = Lan::new()?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let container = lan.container("c1")?;
    // This test has the container's own path open.
    let path = world.dir().join("netns");
    fs::write(&path, "")?;
    let attachment = network::Attachment {
        netns: Some(path.clone()),
        ..network::Attachment::new(&container)
    };
    for number in 0..1000 {
        let none = None::<&str>;
        mount(Some(&container.path()), &path, none, MsFlags::MS_BIND, none)?;
        network.add(&attachment)?;
        network.del(&attachment)?;
        umount(&path).with_context(|| format!("after DEL {number}"))?;
    }
    Ok(())
}

fn del_leaves_no_zombie_where_nobody_reaps(world: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    // A PID namespace whose first process only sleeps.
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sleep",
        "1h",
    ]);
    let process = Process::spawn(world, &lan.host, "unshare", unshare)?;
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    let sleep = until("the namespace's first process", SOON, || {
        let children = fs::read_to_string(&children).unwrap_or_default();
        let child = children.split_whitespace().next().map(str::to_owned);
        child.filter(|child| {
            let name = fs::read_to_string(format!("/proc/{child}/comm"));
            name.is_ok_and(|name| name == "sleep\n")
        })
    })?;
    let enter = format!("nsenter --target {sleep} --pid --mount");
    let plugin = plugin_dir().join("macvlan").display().to_string();
    let mut path = script(world, "macvlan", &format!("exec {enter} {plugin}\n"))?;
    path.swap(0, 1);
    Network::with_path(&lan.host, conflist, path).del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)?;
    let orphans = fs::read_to_string(format!("/proc/{sleep}/task/{sleep}/children"))?;
    ensure!(
        orphans.is_empty(),
        "processes that nobody will reap: {orphans}"
    );
    Ok(())
}

fn del_succeeds_when_the_parent_is_gone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    lan.host
        .netlink()?
        .delete_link(lan.host.link(Lan::MASTER)?.index)?;
    ensure_nothing_left(&container).context("the kernel removes a macvlan with its parent")?;
    Network::new(&lan.host, conflist).del(&network::Attachment::new(&container))
}

fn del_succeeds_when_the_netns_is_gone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    let network = Network::new(&lan.host, conflist);
    let attachment = network::Attachment::new(&container);
    let path = container.path();
    container.remove()?;
    network.del(&attachment)?;
    // After a restart of the machine the file is left, and nothing mounted on it.
    fs::write(&path, "")?;
    network.del(&attachment)?;
    network.del(&network::Attachment {
        netns: None,
        ..attachment
    })
}

fn another_interface_of_that_name_is_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, result) = made(&lan, "c1", &conflist)?;
    container
        .netlink()?
        .delete_link(container.link("eth0")?.index)?;
    let other = plug(&lan, &container, "eth0")?;
    let network = Network::new(&lan.host, conflist);
    let del = network.prepare(
        "DEL",
        0,
        &network::Attachment::new(&container),
        Some(&result),
    )?;
    let outcome = del.run(&lan.host)?;
    ensure!(outcome.stderr.contains("left eth0 alone"), "{outcome:?}");
    outcome.success()?;
    ensure!(container.link("eth0")?.index == other.index);
    Ok(())
}

fn another_networks_macvlan_of_that_name_is_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let mut wan = conflist(json!({}));
    wan["name"] = json!("wan");
    let (container, _) = made(&lan, "c1", &wan)?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let attachment = network::Attachment::new(&container);
    let outcome = network
        .prepare("DEL", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(
        outcome
            .stderr
            .contains("left eth0 alone, because it belongs to another attachment"),
        "{outcome:?}"
    );
    outcome.success()?;
    container.link("eth0")?;
    Network::new(&lan.host, wan).del(&attachment)?;
    ensure_nothing_left(&container)
}

fn a_renamed_interface_is_recognized_by_its_alias(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    container.set_down("eth0")?;
    container.rename("eth0", "lan0")?;
    Network::new(&lan.host, conflist).del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)
}

fn an_interface_without_mark_and_name_is_recognized_by_mac_and_parent(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, result) = made(&lan, "c1", &conflist)?;
    container.output(&["ip", "link", "set", "eth0", "alias", ""])?;
    container.set_down("eth0")?;
    container.rename("eth0", "foo")?;
    container.set_up("foo")?;
    let network = Network::new(&lan.host, conflist);
    let attachment = network::Attachment::new(&container);
    let del = || {
        let del = network.prepare("DEL", 0, &attachment, Some(&result))?;
        let outcome = del.run(&lan.host)?;
        let stderr = outcome.stderr.clone();
        outcome.success()?;
        Ok::<_, lab::anyhow::Error>(stderr)
    };
    let stderr = del()?;
    ensure_nothing_left(&container)?;
    ensure!(stderr.is_empty(), "{stderr}");
    // Where nothing is found, DEL says so.
    let stderr = del()?;
    ensure!(stderr.contains("there is no eth0 to remove"), "{stderr}");
    Ok(())
}

fn other_interfaces_with_the_reported_mac_are_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, result) = made(&lan, "c1", &conflist)?;
    let inside = container.netlink()?;
    let eth0 = container.link("eth0")?;
    inside.delete_link(eth0.index)?;
    lan.host.add_bridge("other")?;
    let host = lan.host.netlink()?;
    let create = |name: &str, parent: &str, alias: &str| -> Result {
        let new = NewMacvlan {
            mac: eth0.mac,
            ..NewMacvlan::new(name, lan.host.link(parent)?.index)
        };
        let link = host.add_macvlan(&new, container.netns(), &inside)?;
        inside.set_alias_and_group(link.index, alias, 0)?;
        Ok(())
    };
    create("foreign", "other", "")?;
    create("net1", Lan::MASTER, "leasehold:net1/c1/wan")?;
    let network = Network::new(&lan.host, conflist);
    let attachment = network::Attachment::new(&container);
    let outcome = network
        .prepare("DEL", 0, &attachment, Some(&result))?
        .run(&lan.host)?;
    ensure!(
        outcome.stderr.contains("there is no eth0 to remove"),
        "{outcome:?}"
    );
    outcome.success()?;
    container.link("foreign")?;
    container.link("net1")?;
    Ok(())
}

/// Adds this many addresses to the interface of a container.
fn add_addresses(world: &World, container: &lab::Node, ifname: &str, number: u32) -> Result {
    let script = world.dir().join("addresses");
    let lines = (0..number).map(|nth| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + nth);
        format!("addr add {address}/32 dev {ifname}\n")
    });
    fs::write(&script, lines.collect::<String>())?;
    container.output(&["ip", "-batch", &script.display().to_string()])?;
    Ok(())
}

/// An IPAM plugin that gives 10.99.0.50, and at DEL notes the addresses of the container in the
/// file `seen`.
fn noting(world: &World, seen: &Path) -> Result<Vec<PathBuf>> {
    let result = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.50/24" }] });
    let body = format!(
        "cat >/dev/null\ncase $CNI_COMMAND in\nADD) echo '{result}';;\n\
         *) nsenter --net=$CNI_NETNS cat /proc/net/fib_trie >{};;\nesac\n",
        seen.display()
    );
    script(world, "noting", &body)
}

/// A network whose IPAM plugin is [`noting`], and the file that it notes in.
fn noting_network<'a>(world: &World, lan: &'a Lan) -> Result<(Network<'a>, PathBuf)> {
    let seen = world.dir().join("seen");
    let conflist = conflist(json!({ "ipam": { "type": "noting" } }));
    let network = Network::with_path(&lan.host, conflist, noting(world, &seen)?);
    Ok((network, seen))
}

/// More addresses than DEL removes one by one.
const TOO_MANY: u32 = 300;

fn an_address_is_taken_off_among_many_that_the_container_has_added(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let (network, seen) = noting_network(world, &lan)?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    add_addresses(world, &container, "eth0", TOO_MANY)?;
    // It is still the same address.
    container.output(&["ip", "addr", "add", "10.99.0.50/32", "dev", "eth0"])?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    let noted = fs::read_to_string(&seen)?;
    ensure!(
        noted.contains("10.200.0.7") && !noted.contains("10.99.0.50"),
        "{noted}"
    );
    Ok(())
}

/// Without `prevResult`, it is unknown which of them IPAM has given.
fn an_interface_with_too_many_addresses_is_removed_before_they_are_given_back(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let (network, seen) = noting_network(world, &lan)?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    add_addresses(world, &container, "eth0", TOO_MANY)?;
    network
        .prepare("DEL", 0, &attachment, None)?
        .run(&lan.host)?
        .success()?;
    ensure_nothing_left(&container)?;
    let noted = fs::read_to_string(&seen)?;
    ensure!(
        !noted.contains("10.200.0.7") && !noted.contains("10.99.0.50"),
        "{noted}"
    );
    Ok(())
}

fn the_hosts_own_interfaces_are_never_touched(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    let shim = NewMacvlan::new("eth0", lan.host.link(Lan::MASTER)?.index);
    host.add_macvlan(&shim, lan.host.netns(), &host)?;
    let network = Network::new(&lan.host, conflist(json!({})));
    network.del(&network::Attachment::new(&lan.host))?;
    lan.host.link("eth0")?;
    Ok(())
}

/// The upgrade: made by the other plugin, kept by ours.
fn an_interface_made_by_the_go_plugin_is_checked_and_removed(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    for with_result in [true, false] {
        let container = lan.container("c1")?;
        let attachment = network::Attachment::new(&container);
        let go = Network::with_path(&lan.host, conflist.clone(), vec![DEBIANS_PLUGINS.into()]);
        let result = go.add(&attachment)?;
        let ours = Network::new(&lan.host, conflist.clone());
        let call = |verb: &str, result: Option<&Value>| -> Result<Value> {
            ours.prepare(verb, 0, &attachment, result)?
                .run(&lan.host)?
                .success()
        };
        call("CHECK", Some(&result))?;
        call("DEL", Some(&result).filter(|_| with_result))?;
        ensure_nothing_left(&container)?;
        container.remove()?;
    }

    // One of another MAC than the result's is another.
    let container = lan.container("c2")?;
    let attachment = network::Attachment::new(&container);
    let go = Network::with_path(&lan.host, conflist.clone(), vec![DEBIANS_PLUGINS.into()]);
    let mut result = go.add(&attachment)?;
    result["interfaces"][0]["mac"] = json!("02:00:00:00:00:99");
    let ours = Network::new(&lan.host, conflist);
    let outcome = ours
        .prepare("DEL", 0, &attachment, Some(&result))?
        .run(&lan.host)?;
    ensure!(outcome.stderr.contains("left eth0 alone"), "{outcome:?}");
    container.link("eth0")?;
    Ok(())
}

fn a_finished_interface_has_its_alias_and_the_default_group(_: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let link = container.link("eth0")?;
    ensure!(
        (link.alias.as_deref(), link.group) == (Some("leasehold:eth0/c1/lan"), 0),
        "{link:?}"
    );
    Ok(())
}

fn an_add_whose_result_is_lost_after_a_del_undoes_nothing_more(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let (calls, document) = (world.dir().join("calls"), world.dir().join("result"));
    // More than a pipe holds, so that ADD waits for its caller to read.
    let search: Vec<_> = (0..4000)
        .map(|nth| format!("domain-{nth}.example.com"))
        .collect();
    let result = json!({
        "cniVersion": "1.0.0",
        "ips": [{ "address": "10.99.0.50/24" }],
        "dns": { "search": search },
    });
    fs::write(&document, result.to_string())?;
    let body = format!(
        "cat >/dev/null\necho $CNI_COMMAND >>{}\n[ $CNI_COMMAND != ADD ] || cat {}\n",
        calls.display(),
        document.display()
    );
    let path = script(world, "wordy", &body)?;
    let conflist = conflist(json!({ "ipam": { "type": "wordy" } }));
    let network = Network::with_path(&lan.host, conflist, path);
    let attachment = network::Attachment::new(&container);
    let add = network
        .prepare("ADD", 0, &attachment, None)?
        .start(&lan.host)?;
    let pid = add.pid();
    let writing = format!("{} 0x1 ", nix::libc::SYS_write);
    until("ADD writes its result", SOON, || {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
        call.is_ok_and(|call| call.starts_with(&writing))
    })?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    drop(add); // and with it the pipe
    waitpid(Pid::from_raw(pid.cast_signed()), None)?;
    let called = fs::read_to_string(&calls)?;
    ensure!(called == "ADD\nDEL\n", "{called}");
    Ok(())
}
