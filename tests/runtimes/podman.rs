//! Podman 4 with its CNI backend, as the documentation's sections say.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::IpNet;
use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::DhcpOption;
use lab::serde_json::{self, Value};
use lab::servers::DNSMASQ;
use lab::suite::{Package, packages};
use lab::{DhcpServer, Lan, Node, Result, Test, World, test, until};
use linknet::Route;

use crate::document;
use crate::image;
use crate::machine;
use crate::scenario::{PLUGINS, SOON, Scenario};

pub(crate) const PODMAN: &[Package] = &[
    Package::new("podman", "podman"),
    Package::new("crun", "crun"),
    Package::new("conmon", "conmon"),
    image::PACKAGE,
    DNSMASQ.package,
    packages::GO_PLUGINS, // host-local
];

pub(crate) const TESTS: &[Test] = &[
    test!(podman_runs_what_the_documentation_says).needs(PODMAN),
    test!(a_container_identified_by_name_keeps_its_address_when_restarted_or_recreated)
        .needs(PODMAN),
    test!(a_pool_of_fixed_addresses_is_written_and_used_as_documented).needs(PODMAN),
    test!(a_container_on_two_networks_answers_on_both).needs(PODMAN),
];

fn podman_runs_what_the_documentation_says(world: &World) -> Result {
    machine::enter(world)?;
    configure()?;
    let scenario = Scenario::new(world, PLUGINS, &["02:11:22:33:44:55,10.99.0.42"])?;
    let sections = document::commands("docs/podman.md", "Podman 4");
    let [configuration, create, run, inspect, fixed, restart, remove] = sections[..] else {
        bail!("the section has other commands than this test knows: {sections:#?}");
    };
    scenario.shell(configuration)?;
    image::busybox(Path::new("/tmp/busybox.tar"))?;
    scenario.shell("podman load --input /tmp/busybox.tar")?;

    scenario.shell(create)?;
    let written: Value = serde_json::from_slice(&std::fs::read("/etc/cni/net.d/lan.conflist")?)?;
    let example: Value = serde_json::from_slice(&std::fs::read(machine::checkout(
        "examples/podman/lan.conflist",
    ))?)?;
    ensure!(
        written == example,
        "Podman writes another conflist than the example: {written:#}"
    );

    scenario.shell(run)?;
    let told = scenario.shell(inspect)?;
    let [address, gateway, mac] = told.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("podman inspect says: {told}");
    };
    let address: Ipv4Addr = address.parse().with_context(|| told.clone())?;
    ensure!(gateway == "10.99.0.1", "{told}");
    let link = scenario.shell("podman exec web ip link show eth0")?;
    ensure!(
        link.contains(mac),
        "inspect says {told}, the container {link}"
    );
    scenario.leased(address)?;
    scenario
        .lan
        .lan
        .ping(address.into(), SOON)
        .context("another host pings the container")?;
    let routes = scenario.shell("podman exec web ip route")?;
    ensure!(routes.contains("default via 10.99.0.1"), "{routes}");

    scenario.shell(fixed)?;
    let reserved = Ipv4Addr::new(10, 99, 0, 42);
    scenario
        .lan
        .lan
        .ping(reserved.into(), SOON)
        .context("the reservation was not kept")?;

    scenario.shell(restart)?;
    ensure!(
        scenario.shell(inspect)?.starts_with(&address.to_string()),
        "podman restart changed the address"
    );
    scenario.lan.lan.ping(address.into(), SOON)?;

    scenario.shell(remove)?;
    scenario.given_back(address)?;
    scenario.given_back(reserved)?;
    ensure!(!Path::new("/etc/cni/net.d/lan.conflist").exists());
    Ok(())
}

fn a_container_identified_by_name_keeps_its_address_when_restarted_or_recreated(
    world: &World,
) -> Result {
    machine::enter(world)?;
    configure()?;
    let scenario = Scenario::new(world, PLUGINS, &[])?;
    image::busybox(Path::new("/tmp/busybox.tar"))?;
    scenario.shell("podman load --input /tmp/busybox.tar")?;
    scenario.shell("podman network create -d macvlan -o parent=eth1 lan")?;
    let file = "/etc/cni/net.d/lan.conflist";
    let mut conflist: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    conflist["plugins"][0]["ipam"]["clientId"] = "name".into();
    machine::write(file, &conflist.to_string())?;

    let run = "podman run -d --name web --network lan docker.io/library/busybox httpd -f";
    let inspect = "podman inspect web --format '{{.NetworkSettings.Networks.lan.IPAddress}}'";
    scenario.shell(run)?;
    let address = scenario.shell(inspect)?;
    scenario.shell("podman restart -t 0 web")?;
    ensure!(
        scenario.shell(inspect)? == address,
        "podman restart changed the address"
    );
    scenario.shell("podman rm -f -t 0 web")?;
    scenario.shell(run)?;
    ensure!(
        scenario.shell(inspect)? == address,
        "a new container of that name has another address"
    );
    Ok(())
}

fn a_pool_of_fixed_addresses_is_written_and_used_as_documented(world: &World) -> Result {
    machine::enter(world)?;
    configure()?;
    let scenario = Scenario::new(world, PLUGINS, &[])?;
    image::busybox(Path::new("/tmp/busybox.tar"))?;
    scenario.shell("podman load --input /tmp/busybox.tar")?;
    let [create, run, fixed, remove] = document::commands("docs/addresses.md", "With Podman 4")[..]
    else {
        bail!("the section has other commands than this test knows");
    };
    scenario.shell(create)?;
    let written: Value = serde_json::from_slice(&std::fs::read("/etc/cni/net.d/pool.conflist")?)?;
    let example: Value = serde_json::from_slice(&std::fs::read(machine::checkout(
        "examples/podman/pool.conflist",
    ))?)?;
    ensure!(
        written == example,
        "Podman writes another conflist than the example: {written:#}"
    );

    scenario.shell(run)?;
    let first = Ipv4Addr::new(10, 99, 0, 193);
    scenario
        .lan
        .lan
        .ping(first.into(), SOON)
        .context("the first address that Podman takes the range to have")?;
    let routes = scenario.shell("podman exec web ip route")?;
    ensure!(routes.contains("default via 10.99.0.1"), "{routes}");
    scenario.shell(fixed)?;
    scenario
        .lan
        .lan
        .ping(Ipv4Addr::new(10, 99, 0, 210).into(), SOON)
        .context("the address asked for")?;
    scenario.shell(remove)?;
    ensure!(!Path::new("/etc/cni/net.d/pool.conflist").exists());
    Ok(())
}

fn a_container_on_two_networks_answers_on_both(world: &World) -> Result {
    machine::enter(world)?;
    configure()?;
    let scenario = Scenario::new(world, PLUGINS, &[])?;
    let (lan2, router) = (Node::new("lan2")?, Ipv4Addr::new(10, 98, 0, 1));
    let host = &scenario.lan.host;
    host.add_veth("eth2", (&lan2, Lan::SERVER_LINK))?;
    host.set_up("eth2")?;
    lan2.set_up(Lan::SERVER_LINK)?;
    lan2.add_address(Lan::SERVER_LINK, IpNet::new(router.into(), 24)?)?;
    let settings = Settings {
        address: router,
        pool: Ipv4Addr::new(10, 98, 0, 100)..=Ipv4Addr::new(10, 98, 0, 199),
        options: vec![DhcpOption::Router(vec![router])],
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan2, settings)?;
    image::busybox(Path::new("/tmp/busybox.tar"))?;
    scenario.shell("podman load --input /tmp/busybox.tar")?;
    let [create, run, remove] =
        document::commands("docs/networks.md", "Two networks with Podman")[..]
    else {
        bail!("the section has other commands than this test knows");
    };
    scenario.shell(create)?;
    scenario.shell(run)?;

    let routes = scenario.shell("podman exec web ip route")?;
    let defaults: Vec<&str> = routes
        .lines()
        .filter(|line| line.starts_with("default"))
        .collect();
    ensure!(
        defaults.len() == 1 && defaults[0].contains("via 10.99.0.1 "),
        "{routes}"
    );
    let address = |network: &str| -> Result<Ipv4Addr> {
        let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
        Ok(scenario
            .shell(&format!("podman inspect web --format '{format}'"))?
            .trim()
            .parse()?)
    };
    scenario.lan.lan.ping(address("lan")?.into(), SOON)?;
    // The second LAN's router asks as somebody from beyond it.
    let asker: IpNet = "192.0.2.7/32".parse()?;
    lan2.add_address("lo", asker)?;
    let on_link = Route::new(
        "10.98.0.0/24".parse::<IpNet>()?,
        lan2.link(Lan::SERVER_LINK)?.index,
    );
    lan2.netlink()?.replace_route(&Route {
        source: Some(asker.addr()),
        ..on_link
    })?;
    lan2.ping(address("lan2")?.into(), SOON)?;

    scenario.shell(remove)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

/// What Podman needs to run here at all; none of it is about networks.
pub(crate) fn configure() -> Result {
    // No service manager, no cgroup controllers, and a root without CAP_SYS_RESOURCE, which may
    // raise no limit.
    machine::write(
        "/etc/containers/containers.conf",
        "[containers]\n\
         cgroups = \"disabled\"\n\
         log_driver = \"k8s-file\"\n\
         default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         pids_limit = 0\n\
         [engine]\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         runtime = \"crun\"\n",
    )?;
    machine::write(
        "/etc/containers/storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\nrunroot = \"/run/containers/storage\"\n",
    )?;
    machine::write(
        "/etc/containers/policy.json",
        "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}",
    )
}
