//! Nobody can have the host led to an address of their choice: not the DHCP server, not a pod's
//! author, and not root in a container.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use attachment::HostLock;
use attachment::host_access::{AttachmentTag, HostAccess, HostAccessKey};
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::plugin::CniError;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::{Route, sysctl};
use nix::mount::{MsFlags, mount};

use super::{
    HOST, HOST6, container, ensure_host_is_clean, ensure_they_talk, lan, reached, shim, with_access,
};
use crate::macvlan::given;
use crate::scenario::{SOON, address, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_server_cannot_have_the_host_led_to_an_address_that_it_uses),
    test!(a_renewal_cannot_have_the_host_led_to_an_address_that_it_uses),
    test!(a_pods_author_cannot_have_the_host_led_to_an_address_that_it_uses)
        .needs(&[packages::GO_PLUGINS]),
    test!(a_container_cannot_have_the_host_led_to_addresses_that_it_adds),
    test!(the_gateways_of_next_hop_objects_are_gateways),
    test!(what_the_host_refuses_to_reach_stays_out_of_reach),
    test!(a_vpn_with_the_lans_prefix_keeps_what_the_host_sends_to_it),
    test!(a_second_link_to_the_lan_is_no_obstacle),
    test!(the_ends_of_the_hosts_prefixes_are_nobodys_address),
    test!(an_attachment_cannot_take_another_ones_address),
    test!(an_attachment_waits_for_another_that_ends),
    test!(ipv6_addresses_are_chosen_as_carefully),
    test!(an_address_that_is_listed_by_itself_may_be_a_gateway_and_a_name_server),
    test!(a_host_without_an_address_is_led_nowhere),
];

/// The host's gateway, name server, and a network behind another link.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 53);
const LAN: &str = "10.99.0.0/24";
const TUNNEL: &str = "10.99.0.192/26";
const IN_TUNNEL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 200);

/// Addresses that a host has other uses for, or that are not on its LAN.
const PRIZES: [Ipv4Addr; 8] = [
    GATEWAY,
    RESOLVER,
    IN_TUNNEL,
    HOST,
    Ipv4Addr::new(10, 99, 0, 255),
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(10, 50, 0, 7),
];

/// A LAN whose host uses it: for its default route, and to resolve names.
fn used_lan() -> Result<Lan> {
    let lan = lan()?;
    let netlink = lan.host.netlink()?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    for (default, gateway) in [
        ("0.0.0.0/0", IpAddr::from(GATEWAY)),
        ("::/0", Lan::ADDRESS6.into()),
    ] {
        let route = Route::new(default.parse::<ipnet::IpNet>()?, parent);
        netlink.add_route(&route.via(gateway))?;
    }
    lan.host.add_bridge("tunnel")?;
    lan.host.set_up("tunnel")?;
    let tunnel = lan.host.link("tunnel")?.index;
    netlink.add_route(&Route::new(TUNNEL.parse::<ipnet::IpNet>()?, tunnel))?;
    Ok(lan)
}

/// Gives the world's hosts these name servers.
fn set_resolvers(world: &World, resolvers: &[IpAddr]) -> Result {
    let file = world.dir().join("resolv.conf");
    let lines = resolvers.iter().map(|it| format!("nameserver {it}\n"));
    fs::write(&file, lines.collect::<String>())?;
    let none = None::<&str>;
    mount(
        Some(&file),
        "/etc/resolv.conf",
        none,
        MsFlags::MS_BIND,
        none,
    )?;
    Ok(())
}

/// Somebody's server on the LAN, which gives this address alone, renewed after a second.
fn rogue(address: Ipv4Addr) -> Settings {
    Settings {
        address: [10, 99, 0, 66].into(),
        // It names no router: the daemon ignores an offer of the router's own address.
        options: Vec::new(),
        pool: address..=address,
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn dhcp(daemon: &Daemon) -> Value {
    with_access(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() } }))
}

/// Fails unless the host sends what is for this address where it did before: nowhere through a
/// macvlan of ours.
fn ensure_not_led(lan: &Lan, to: IpAddr) -> Result {
    let all = reached(lan)?;
    ensure!(!all.contains(&to), "the host is led to {to}: {all:?}");
    Ok(())
}

fn refusal(network: &Network<'_>, attachment: &network::Attachment) -> Result<CniError> {
    let error = network::cni_error(network.add(attachment));
    ensure!(
        error.code == 114
            && error
                .msg
                .starts_with("hostAccess: the host must not be led to"),
        "{error:?}"
    );
    Ok(error)
}

fn a_server_cannot_have_the_host_led_to_an_address_that_it_uses(world: &World) -> Result {
    let lan = used_lan()?;
    set_resolvers(world, &[RESOLVER.into()])?;
    let server = DhcpServer::start(&lan.lan, rogue(GATEWAY))?;
    let daemon = Daemon::start(world, &lan.host)?;
    let network = Network::new(&lan.host, dhcp(&daemon));
    for prize in PRIZES {
        server.reconfigure(|settings| settings.pool = prize..=prize);
        let container = container(&lan, "c1")?;
        let attachment = network::Attachment::new(&container);
        let error = refusal(&network, &attachment).with_context(|| prize.to_string())?;
        ensure!(
            error.msg.contains(&prize.to_string()) && !error.details.is_empty(),
            "{error:?}"
        );
        ensure_nothing_left(&container)?;
        ensure_host_is_clean(&lan.host)?;
        until("the address is given back", SOON, || {
            server.leases().is_empty()
        })?;
        container.remove()?;
    }
    // Such an address is the container's affair where the host is not concerned.
    let mut without = dhcp(&daemon);
    without["plugins"][0]["hostAccess"] = json!(false);
    let container = container(&lan, "c2")?;
    Network::new(&lan.host, without).add(&network::Attachment::new(&container))?;
    Ok(())
}

fn a_renewal_cannot_have_the_host_led_to_an_address_that_it_uses(world: &World) -> Result {
    let lan = used_lan()?;
    let first = Ipv4Addr::new(10, 99, 0, 61);
    let server = DhcpServer::start(&lan.lan, rogue(first))?;
    let daemon = Daemon::start(world, &lan.host)?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, dhcp(&daemon));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    ensure!(reached(&lan)? == [IpAddr::V4(first)]);
    for prize in [Ipv4Addr::new(8, 8, 8, 8), GATEWAY] {
        server.reconfigure(|settings| settings.pool = prize..=prize);
        server.forget();
        until("the container has it", Duration::from_secs(15), || {
            address(&container).is_ok_and(|now| now == prize)
        })?;
        let warning = format!("the host must not be led to {prize}");
        until("the log says so", SOON, || daemon.log().contains(&warning))?;
        until("the host is clean", SOON, || {
            ensure_host_is_clean(&lan.host).is_ok()
        })
        .with_context(|| daemon.log())?;
        ensure!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    }
    // An address on the LAN is good again.
    server.reconfigure(|settings| settings.pool = first..=first);
    server.forget();
    until("the route is there", Duration::from_secs(15), || {
        reached(&lan).is_ok_and(|all| all == [IpAddr::V4(first)])
    })?;
    ensure_they_talk((&lan.host, HOST.into()), (&container, first.into()))?;
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

/// The address comes in `runtimeConfig.ips`, and Debian's `static` hands it out.
fn a_pods_author_cannot_have_the_host_led_to_an_address_that_it_uses(world: &World) -> Result {
    let lan = used_lan()?;
    set_resolvers(world, &[RESOLVER.into()])?;
    let keys = json!({ "capabilities": { "ips": true }, "ipam": { "type": "static" } });
    let network = Network::new(&lan.host, with_access(keys));
    let wish = |container: &Node, address: IpAddr| {
        let mut attachment = network::Attachment::new(container);
        let ips = json!([format!("{address}/24")]);
        attachment.capabilities.insert("ips".to_owned(), ips);
        attachment
    };
    let container = container(&lan, "c1")?;
    for prize in PRIZES {
        let attachment = wish(&container, prize.into());
        let error = refusal(&network, &attachment).with_context(|| prize.to_string())?;
        ensure!(error.msg.contains(&prize.to_string()), "{error:?}");
        ensure_nothing_left(&container)?;
        ensure_host_is_clean(&lan.host)?;
    }
    let good: IpAddr = "10.99.0.61".parse()?;
    let attachment = wish(&container, good);
    network.add(&attachment)?;
    ensure_they_talk((&lan.host, HOST.into()), (&container, good))?;
    network.del(&attachment)
}

fn a_container_cannot_have_the_host_led_to_addresses_that_it_adds(world: &World) -> Result {
    const MANY: u32 = 2000;
    let lan = used_lan()?;
    let mut conflist = with_access(json!({}));
    conflist["cniVersion"] = json!("1.1.0");
    let result = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, conflist, &result)?;
    let container = container(&lan, "c1")?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let many = (0..MANY).map(|nth| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 64, 0)) + nth));
    let claims: String = (PRIZES.into_iter().chain(many).map(IpAddr::V4))
        .chain([
            "2001:db8::53".parse()?,
            "fd99::1".parse()?,
            "10.99.0.62".parse()?,
        ])
        .map(|address| format!("addr add {address} dev eth0\n"))
        .collect();
    let script = world.dir().join("claims");
    fs::write(&script, claims)?;
    container.output(&["ip", "-batch", &script.display().to_string()])?;
    for is_lost in [false, true] {
        if is_lost {
            let index = shim(&lan)?.context("a shim")?.index;
            lan.host.netlink()?.delete_link(index)?;
        }
        network.gc(&[&attachment])?;
        let all = reached(&lan)?;
        ensure!(
            all == ["10.99.0.61".parse::<IpAddr>()?],
            "{} routes: {:?}",
            all.len(),
            all.first()
        );
    }
    // Nor can it speak for another attachment, valid or not, by the mark on its interface.
    let other = network::Attachment {
        container_id: "c2".to_owned(),
        ..attachment.clone()
    };
    container.output(&[
        "ip",
        "link",
        "set",
        "eth0",
        "alias",
        "leasehold:eth0/c2/lan",
    ])?;
    network.gc(&[&attachment, &other])?;
    ensure!(reached(&lan)? == ["10.99.0.61".parse::<IpAddr>()?]);
    Ok(())
}

fn an_attachment_cannot_take_another_ones_address(world: &World) -> Result {
    let lan = used_lan()?;
    let result = json!({ "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, with_access(json!({})), &result)?;
    let (one, two) = (container(&lan, "c1")?, container(&lan, "c2")?);
    network.add(&network::Attachment::new(&one))?;
    let before = lan
        .host
        .netlink()?
        .routes_with_protocol(attachment::PROTOCOL)?;
    let error = refusal(&network, &network::Attachment::new(&two))?;
    ensure!(error.msg.contains("another attachment"), "{error:?}");
    ensure_nothing_left(&two)?;
    let after = lan
        .host
        .netlink()?
        .routes_with_protocol(attachment::PROTOCOL)?;
    ensure!(before == after, "{before:?} {after:?}");
    // It is the first one's even while its route is lost.
    let index = shim(&lan)?.context("a shim")?.index;
    lan.host.netlink()?.delete_link(index)?;
    refusal(&network, &network::Attachment::new(&two))?;
    network.del(&network::Attachment::new(&one))?;
    network.add(&network::Attachment::new(&two)).map(drop)
}

/// Its DEL gives the address back before it removes the route.
fn an_attachment_waits_for_another_that_ends(world: &World) -> Result {
    let lan = used_lan()?;
    let result = json!({ "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, with_access(json!({})), &result)?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    let access =
        || -> Result<HostAccess> { Ok(HostAccess::new(lan.host.netns(), HostLock::acquire()?)?) };
    let ending = AttachmentTag::new(&cni::Attachment::new("c1", "lan", "eth0")?);
    let address: IpAddr = "10.99.0.61".parse()?;
    access()?.attach(parent, ending, &[address], &HostAccessKey::OnLink)?;
    let container = container(&lan, "c2")?;
    let attachment = network::Attachment::new(&container);
    let started = network
        .prepare("ADD", 0, &attachment, None)?
        .start(&lan.host)?;
    until("ADD has set the address", SOON, || {
        container.ipv4("eth0").is_ok_and(|all| !all.is_empty())
    })?;
    access()?.detach(|tag, _| tag == ending)?;
    started.finish()?.success()?;
    lan.host.ping(address, SOON)?;
    Ok(())
}

/// Fails unless ADD refuses to lead the host to this address, for this reason.
fn ensure_refused(world: &World, lan: &Lan, prize: &str, reason: &str) -> Result {
    let result = json!({ "ips": [{ "address": prize }] });
    let network = given(world, lan, with_access(json!({})), &result)?;
    let container = container(lan, "c1")?;
    let error = refusal(&network, &network::Attachment::new(&container))
        .with_context(|| prize.to_owned())?;
    ensure!(error.msg.contains(reason), "{prize}: {error:?}");
    ensure_nothing_left(&container)?;
    ensure_host_is_clean(&lan.host)?;
    container.remove()
}

fn the_gateways_of_next_hop_objects_are_gateways(world: &World) -> Result {
    let lan = lan()?;
    let parent = Lan::MASTER;
    for command in [
        format!("ip nexthop add id 1 via 10.99.0.1 dev {parent}"),
        format!("ip nexthop add id 2 via 10.99.0.3 dev {parent}"),
        "ip nexthop add id 10 group 1/2".to_owned(),
        "ip route add default nhid 10".to_owned(),
        format!("ip nexthop add id 6 via fd99::3 dev {parent}"),
        "ip -6 route add default nhid 6".to_owned(),
    ] {
        lan.host
            .output(&command.split(' ').collect::<Vec<_>>())
            .with_context(|| command.clone())?;
    }
    for compat_mode in ["1", "0"] {
        let set = || sysctl::set(&["ipv4", "nexthop_compat_mode"], compat_mode);
        lan.host.run(set)??;
        for prize in ["10.99.0.1/24", "10.99.0.3/24", "fd99::3/64"] {
            ensure_refused(world, &lan, prize, "it is a gateway of the host")
                .with_context(|| format!("nexthop_compat_mode={compat_mode}"))?;
        }
    }
    // The objects are no obstacle to others.
    let result = json!({ "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, with_access(json!({})), &result)?;
    let container = container(&lan, "c2")?;
    network.add(&network::Attachment::new(&container)).map(drop)
}

fn what_the_host_refuses_to_reach_stays_out_of_reach(world: &World) -> Result {
    let lan = lan()?;
    for (kind, dst, prize) in [
        ("blackhole", "10.99.0.128/26", "10.99.0.130/24"),
        ("unreachable", "10.99.0.90", "10.99.0.90/24"),
        ("prohibit", "10.99.0.96/28", "10.99.0.97/24"),
        ("blackhole", "fd99::80/121", "fd99::81/64"),
    ] {
        lan.host.output(&["ip", "route", "add", kind, dst])?;
        let reason = format!("the host has a route of its own to {dst}");
        ensure_refused(world, &lan, prize, &reason)?;
    }
    Ok(())
}

/// A LAN whose host has a route to it with metric 100, and another one through the bridge `other`.
fn lan_with_another_link(metric: &str) -> Result<Lan> {
    let lan = Lan::new()?;
    let ip = |command: &str| {
        let command: Vec<&str> = ["ip"].into_iter().chain(command.split(' ')).collect();
        lan.host.output(&command)
    };
    let address = format!("{HOST}/24");
    let parent = Lan::MASTER;
    ip(&format!("address add {address} dev {parent} noprefixroute"))?;
    ip(&format!(
        "route add {LAN} dev {parent} src {HOST} metric 100"
    ))?;
    lan.host.add_bridge("other")?;
    lan.host.set_up("other")?;
    ip(&format!("route add {LAN} dev other metric {metric}"))?;
    Ok(lan)
}

fn a_vpn_with_the_lans_prefix_keeps_what_the_host_sends_to_it(world: &World) -> Result {
    // NetworkManager's metrics of a VPN and of Ethernet.
    let lan = lan_with_another_link("50")?;
    let taken = Ipv4Addr::new(10, 99, 0, 77);
    let server = DhcpServer::start(&lan.lan, rogue(taken))?;
    let daemon = Daemon::start(world, &lan.host)?;
    let network = Network::new(&lan.host, dhcp(&daemon));
    let container = container(&lan, "c1")?;
    let attachment = network::Attachment::new(&container);
    let error = refusal(&network, &attachment)?;
    let reason = format!("the host has a route of its own to {LAN}");
    ensure!(error.msg.contains(&reason), "{error:?}");
    ensure_nothing_left(&container)?;
    ensure_host_is_clean(&lan.host)?;
    until("the address is given back", SOON, || {
        server.leases().is_empty()
    })?;
    let route = lan.host.netlink()?.route_get(taken.into())?;
    let other = lan.host.link("other")?.index;
    ensure!(route.is_some_and(|route| route.index == other));
    Ok(())
}

fn a_second_link_to_the_lan_is_no_obstacle(world: &World) -> Result {
    let lan = lan_with_another_link("101")?;
    let result = json!({ "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, with_access(json!({})), &result)?;
    let container = container(&lan, "c1")?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    ensure_they_talk(
        (&lan.host, HOST.into()),
        (&container, "10.99.0.61".parse()?),
    )?;
    network.check(&attachment)?;
    network.del(&attachment)
}

fn the_ends_of_the_hosts_prefixes_are_nobodys_address(world: &World) -> Result {
    let lan = lan()?;
    // Without a broadcast address.
    let add = ["ip", "address", "add", "10.98.0.2/24", "dev", Lan::MASTER];
    lan.host.output(&add)?;
    for prize in [
        "10.98.0.0/24",
        "10.98.0.255/24",
        "10.99.0.0/24",
        "fd99::/64",
    ] {
        ensure_refused(world, &lan, prize, "broadcast")?;
    }
    Ok(())
}

fn ipv6_addresses_are_chosen_as_carefully(world: &World) -> Result {
    let lan = used_lan()?;
    let resolver: IpAddr = "fd99::53".parse()?;
    set_resolvers(world, &[resolver])?;
    let prizes = [
        Lan::ADDRESS6.into(),
        resolver,
        HOST6.into(),
        "2001:db8::53".parse()?,
    ];
    for prize in prizes {
        let result = json!({ "ips": [
            { "address": "10.99.0.61/24" },
            { "address": format!("{prize}/64") },
        ] });
        // Without the neighbours' objections.
        lan.lan.set_down(Lan::SERVER_LINK)?;
        let network = given(world, &lan, with_access(json!({})), &result)?;
        let container = container(&lan, "c1")?;
        refusal(&network, &network::Attachment::new(&container))?;
        ensure_not_led(&lan, prize)?;
        ensure_nothing_left(&container)?;
        ensure_host_is_clean(&lan.host)?;
        container.remove()?;
    }
    Ok(())
}

fn an_address_that_is_listed_by_itself_may_be_a_gateway_and_a_name_server(world: &World) -> Result {
    let lan = used_lan()?;
    set_resolvers(world, &[RESOLVER.into()])?;
    for (list, expected) in [
        (json!(true), false),
        (json!(["10.99.0.0/24"]), false),
        (json!([RESOLVER.to_string()]), true),
    ] {
        let mut conflist = with_access(json!({}));
        conflist["plugins"][0]["hostAccess"] = list;
        let result = json!({ "ips": [{ "address": format!("{RESOLVER}/24") }] });
        let network = given(world, &lan, conflist, &result)?;
        let container = container(&lan, "dns")?;
        let attachment = network::Attachment::new(&container);
        if expected {
            network.add(&attachment)?;
            ensure_they_talk((&lan.host, HOST.into()), (&container, RESOLVER.into()))?;
            network.check(&attachment)?;
            network.del(&attachment)?;
        } else {
            let error = refusal(&network, &attachment)?;
            let remedy = format!("\"hostAccess\": [\"{RESOLVER}\"]");
            ensure!(
                error.msg.contains("name server") && error.details.contains(&remedy),
                "{error:?}"
            );
        }
        container.remove()?;
    }
    Ok(())
}

fn a_host_without_an_address_is_led_nowhere(world: &World) -> Result {
    let lan = Lan::new()?;
    let result = json!({ "ips": [{ "address": "10.99.0.61/24" }] });
    let network = given(world, &lan, with_access(json!({})), &result)?;
    let container = container(&lan, "c1")?;
    let error = refusal(&network, &network::Attachment::new(&container))?;
    ensure!(
        error.msg.contains("eth1 has no address") && error.details.contains("hostAccess"),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    ensure_host_is_clean(&lan.host)
}
