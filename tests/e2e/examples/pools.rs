//! Addresses without a DHCP server: pools that the host manages, as Docker and Rancher have them,
//! and fixed ones.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use lab::anyhow::{Context, ensure};
use lab::plugin::{Call, CniError, DEBIANS_PLUGINS};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test};

use super::{conflist, network};
use crate::scenario::{SOON, default_gateways, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] = &[
    test!(host_local_gives_an_address_of_its_range).needs(&[packages::GO_PLUGINS]),
    test!(static_gives_its_address).needs(&[packages::GO_PLUGINS]),
    test!(docker_gives_the_whole_range_except_excluded_addresses).needs(&[packages::GO_PLUGINS]),
    test!(docker_gives_the_requested_address_and_mac).needs(&[packages::GO_PLUGINS]),
    test!(dual_stack_gives_an_address_and_a_default_route_of_each_family)
        .needs(&[packages::GO_PLUGINS]),
    test!(ranges_are_used_one_after_the_other).needs(&[packages::GO_PLUGINS]),
];

/// Where host-local keeps what it has given, a file for each address.
const BOOKS: &str = "/var/lib/cni/networks";

fn host_local_gives_an_address_of_its_range(_: &World) -> Result {
    gives("host-local", Ipv4Addr::new(10, 99, 0, 50))
}

fn static_gives_its_address(_: &World) -> Result {
    gives("static", Ipv4Addr::new(10, 99, 0, 80))
}

/// The whole life of one attachment: address, gateway and DNS server.
fn gives(example: &str, address: Ipv4Addr) -> Result {
    let lan = Lan::new()?;
    let network = network(&lan, example)?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(reported(&result, &container)? == address, "{result}");
    ensure!(
        result["dns"]["nameservers"] == json!(["10.99.0.1"]),
        "{result}"
    );
    ensure!(
        default_gateways(&container)? == [IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

/// Gives the address of a new container, which is called after its number.
fn join(lan: &Lan, network: &Network<'_>, number: usize) -> Result<(Node, Ipv4Addr)> {
    let container = lan.container(&format!("c{number}"))?;
    let result = network.add(&network::Attachment::new(&container))?;
    let address = reported(&result, &container)?;
    ensure!(
        default_gateways(&container)? == [IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );
    Ok((container, address))
}

fn leave(network: &Network<'_>, container: Node) -> Result {
    network.del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)?;
    container.remove()
}

/// What host-local still counts as given.
fn given(network: &str) -> Result<Vec<String>> {
    let names =
        fs::read_dir(format!("{BOOKS}/{network}"))?.map(|entry| entry.map(|it| it.file_name()));
    let names: Vec<String> = names
        .map(|name| Ok(name?.to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    Ok(names
        .into_iter()
        .filter(|name| name.parse::<IpAddr>().is_ok())
        .collect())
}

/// Fails unless a further container is refused as host-local itself refuses it, with nothing left
/// behind.
fn ensure_exhausted(lan: &Lan, network: &Network<'_>, example: &str) -> Result {
    let container = lan.container("one-too-many")?;
    let attachment = network::Attachment::new(&container);
    let error = network::cni_error(network.add(&attachment));
    let own = host_local(lan, example, &attachment)?;
    ensure!(
        (error.code, &error.msg, &error.details) == (own.code, &own.msg, &own.details),
        "{error}\n{own}"
    );
    ensure!(error.msg.contains("no IP addresses available"), "{error}");
    ensure_nothing_left(&container)?;
    // A runtime calls DEL after a failure.
    leave(network, container)
}

/// What host-local says when it is called by itself.
fn host_local(lan: &Lan, example: &str, attachment: &network::Attachment) -> Result<CniError> {
    let list = conflist(example)?;
    let mut config = list["plugins"][0].clone();
    for key in ["name", "cniVersion"] {
        config[key] = list[key].clone();
    }
    let path = std::path::Path::new(DEBIANS_PLUGINS);
    let call = Call::of(path.join("host-local"), &[path], "ADD")
        .container(&attachment.container_id)
        .netns(attachment.netns.as_deref().context("a netns")?)
        .ifname(&attachment.ifname)
        .config(&config);
    call.run(&lan.host)?.error()
}

fn docker_gives_the_whole_range_except_excluded_addresses(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = network(&lan, "docker")?;
    let printer = Ipv4Addr::new(10, 99, 0, 200);
    let range: BTreeSet<Ipv4Addr> = (192..=223)
        .map(|host| Ipv4Addr::new(10, 99, 0, host))
        .filter(|address| *address != printer)
        .collect();

    let mut containers = Vec::new();
    for number in 0..range.len() {
        containers.push(join(&lan, &network, number)?);
    }
    let addresses: BTreeSet<Ipv4Addr> = containers.iter().map(|(_, address)| *address).collect();
    ensure!(addresses == range, "{addresses:?}");
    for (container, _) in [&containers[0], &containers[range.len() - 1]] {
        container.ping(Lan::ADDRESS.into(), SOON)?;
        network.check(&network::Attachment::new(container))?;
    }
    ensure_exhausted(&lan, &network, "docker")?;

    let (container, address) = containers.swap_remove(7);
    leave(&network, container)?;
    let (container, again) = join(&lan, &network, range.len())?;
    ensure!(
        again == address,
        "{address} was given back, and {again} was given"
    );
    leave(&network, container)?;
    for (container, _) in containers {
        leave(&network, container)?;
    }
    ensure!(
        given("lan-docker")?.is_empty(),
        "host-local still has {:?}",
        given("lan-docker")?
    );
    Ok(())
}

/// `docker run --ip 10.99.0.210 --mac-address …`: a runtime passes it as a capability, or in
/// CNI_ARGS.
fn docker_gives_the_requested_address_and_mac(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = network(&lan, "docker")?;
    let wish = |container: &Node, ips: &str| {
        let mut attachment = network::Attachment::new(container);
        attachment
            .capabilities
            .insert("ips".to_owned(), json!([ips]));
        attachment
            .capabilities
            .insert("mac".to_owned(), json!("02:11:22:33:44:55"));
        attachment
    };
    let wish_in_arguments = |container: &Node, ip: &str| network::Attachment {
        args: format!("IgnoreUnknown=1;IP={ip};MAC=02:11:22:33:44:55"),
        ..network::Attachment::new(container)
    };
    let [one, two, three] = ["c1", "c2", "c3"].map(|name| lan.container(name));
    let (one, two, three) = (one?, two?, three?);
    for (container, attachment) in [
        (&one, wish(&one, "10.99.0.210")),
        (&two, wish_in_arguments(&two, "10.99.0.210")),
    ] {
        let result = network.add(&attachment)?;
        ensure!(
            reported(&result, container)? == Ipv4Addr::new(10, 99, 0, 210),
            "{result}"
        );
        ensure!(
            container.link("eth0")?.mac == Some("02:11:22:33:44:55".parse()?),
            "{result}"
        );
        network.del(&attachment)?;
        ensure_nothing_left(container)?;
    }
    // What was left out of the range is refused even then.
    let attachment = wish(&three, "10.99.0.200");
    let error = network::cni_error(network.add(&attachment));
    ensure!(error.to_string().contains("10.99.0.200"), "{error}");
    ensure_nothing_left(&three)?;
    network.del(&attachment)
}

fn dual_stack_gives_an_address_and_a_default_route_of_each_family(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let network = network(&lan, "dual-stack")?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    let ips: Vec<&Value> = result["ips"]
        .as_array()
        .context("ips")?
        .iter()
        .map(|ip| &ip["address"])
        .collect();
    ensure!(
        ips == [&json!("10.99.0.192/24"), &json!("fd99::c0/64")],
        "{result}"
    );
    let gateways: BTreeSet<IpAddr> = default_gateways(&container)?.into_iter().collect();
    ensure!(
        gateways == BTreeSet::from([Lan::ADDRESS.into(), Lan::ADDRESS6.into()]),
        "{gateways:?}"
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    container.ping(Lan::ADDRESS6.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(
        given("lan-dual-stack")?.is_empty(),
        "host-local still has {:?}",
        given("lan-dual-stack")?
    );
    ensure_nothing_left(&container)
}

fn ranges_are_used_one_after_the_other(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = network(&lan, "ranges")?;
    let mut containers = Vec::new();
    for host in [50, 51, 52, 60, 61, 70] {
        let (container, address) = join(&lan, &network, containers.len())?;
        ensure!(
            address == Ipv4Addr::new(10, 99, 0, host),
            "{address}, not .{host}"
        );
        containers.push(container);
    }
    let documentation: IpAddr = "10.99.0.2".parse()?;
    let routes = containers[5].routes()?;
    ensure!(
        routes
            .iter()
            .any(|route| route.dst.to_string() == "198.51.100.0/24"
                && route.gateway == Some(documentation)),
        "{routes:?}"
    );
    containers[0].ping("10.99.0.70".parse()?, SOON)?;
    ensure_exhausted(&lan, &network, "ranges")?;
    for container in containers {
        leave(&network, container)?;
    }
    ensure!(
        given("lan-ranges")?.is_empty(),
        "host-local still has {:?}",
        given("lan-ranges")?
    );
    Ok(())
}
