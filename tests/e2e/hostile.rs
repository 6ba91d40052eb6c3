//! A hostile server can only deny a lease or choose its address, and root in a container cannot keep
//! an address that was given back.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, Message, MessageType};
use lab::frames::FrameSocket;
use lab::serde_json::{Value, json};
use lab::{DhcpServer, Lan, Network, Result, Test, World, network, test, until};

use crate::chaos::lease_files;
use crate::scenario::{
    SOON, Scenario, address, conflist, default_gateways, ensure_nothing_left, reported,
};

pub(crate) const TESTS: &[Test] = &[
    test!(invalid_names_from_a_server_reach_no_result_file_or_log),
    test!(an_address_that_no_host_can_have_is_not_leased),
    test!(a_lease_of_zero_seconds_is_refused),
    test!(a_lease_of_one_second_is_renewed_in_time),
    test!(an_infinite_lease_never_expires),
    test!(invalid_masks_mtus_and_routes_are_ignored),
    test!(the_message_of_a_nak_cannot_forge_log_lines),
    test!(frames_with_wrong_lengths_cost_no_lease),
    test!(a_disguised_interface_loses_its_address_before_that_is_released),
    test!(an_address_is_released_however_many_others_the_container_has_added),
    test!(a_container_with_very_many_routes_neither_loses_its_lease_nor_delays_others),
];

/// Root in the container changes everything but the interface's index.
fn a_disguised_interface_loses_its_address_before_that_is_released(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    for (number, disguise) in [
        "link set eth0 alias ''; ip link set eth0 name foo",
        "link set eth0 alias leasehold:eth0/other/lan",
        "link set eth0 alias leasehold:eth0/other/lan; ip link set eth0 address 02:00:00:00:00:42",
        "link set eth0 alias ''; ip link set eth0 name foo; ip link set foo address 02:00:00:00:00:43",
    ]
    .into_iter()
    .enumerate()
    {
        let container = scenario.lan.container(&format!("c{number}"))?;
        let attachment = network::Attachment::new(&container);
        let leased = reported(&network.add(&attachment)?, &container)?;
        let script = format!("set -e; ip link set eth0 down; ip {disguise}; ip link set group 0 up");
        container.output(&["sh", "-c", &script])?;
        let index = container.links()?.iter().map(|link| link.index).max();
        network.del(&attachment)?;
        until("the address is given back", SOON, || {
            server.leases().is_empty()
        })
        .with_context(|| format!("{disguise}\n{}", scenario.daemon.log()))?;
        let there = container.netlink()?.all_addresses()?;
        ensure!(
            !there.iter().any(|address| address.net.addr() == leased),
            "{disguise}: {there:?}"
        );
        // What bears another attachment's mark may be that one's, and other MACs another's.
        let left = container.links()?;
        let is_left = left.iter().any(|link| Some(link.index) == index);
        ensure!(is_left == (number > 0), "{disguise}: {left:?}");
    }
    Ok(())
}

fn an_address_is_released_however_many_others_the_container_has_added(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let container = scenario.lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let script = world.dir().join("addresses");
    let address = |nth: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + nth);
    let lines = (0..2000).map(|nth| format!("addr add {}/32 dev eth0\n", address(nth)));
    fs::write(&script, lines.collect::<String>())?;
    container.output(&["ip", "-batch", &script.display().to_string()])?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the address is given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| scenario.daemon.log())
}

fn a_container_with_very_many_routes_neither_loses_its_lease_nor_delays_others(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        options: vec![DhcpOption::Router(vec![Lan::ADDRESS])],
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let [flooded, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    for container in [&flooded, &other] {
        network.add(&network::Attachment::new(container))?;
    }
    let script = world.dir().join("routes");
    let dst = |nth: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + nth);
    let lines = (0..20_000).map(|nth| format!("route add {} dev eth0\n", dst(nth)));
    fs::write(&script, lines.collect::<String>())?;
    flooded.output(&["ip", "-batch", &script.display().to_string()])?;
    let routes = flooded.routes()?;
    // The default route is restored where the routes can be read.
    for container in [&flooded, &other] {
        container.output(&["ip", "route", "del", "default"])?;
    }
    let lines_of = |container: &str, text: &str| -> usize {
        let log = scenario.daemon.log();
        let of_it = log.lines().filter(|line| line.contains(container));
        of_it.filter(|line| line.contains(text)).count()
    };
    let left_out = "WARN part of the interface is not compared with its lease: \
                    cannot list routes: there are more than 4096 of them";
    until("a line says what is left out", SOON, || {
        lines_of("c1/", left_out) > 0
    })
    .with_context(|| scenario.daemon.log())?;
    let renewals = |container: &str| lines_of(container, "lease renewed");
    let (before, others) = (renewals("c1/"), renewals("c2/"));
    until("both leases are renewed, more than once", SOON, || {
        renewals("c1/") > before + 1 && renewals("c2/") > others + 1
    })
    .with_context(|| scenario.daemon.log())?;
    ensure!(lines_of("c2/", "not compared") == 0);
    ensure!(lines_of("", "ERROR") == 0, "{}", scenario.daemon.log());
    network.check(&network::Attachment::new(&other))?;
    ensure!(default_gateways(&flooded)?.is_empty());
    ensure!(flooded.routes()?.len() == routes.len() - 1);
    let lifetime = flooded.netlink()?.all_addresses()?.into_iter();
    let lifetime = lifetime.filter(|it| it.net.addr().is_ipv4() && it.valid.is_some());
    ensure!(lifetime.count() == 1, "the address ends with its lease");
    for container in [&flooded, &other] {
        network.del(&network::Attachment::new(container))?;
        ensure_nothing_left(container)?;
    }
    until("the addresses are given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| scenario.daemon.log())
}

/// One such frame, an IPv4 packet shorter than its headers, ends the Go daemon and all of its
/// leases.
fn frames_with_wrong_lengths_cost_no_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&network::Attachment::new(&old))?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let adding = network
        .prepare("ADD", 0, &network::Attachment::new(&new), None)?
        .start(&scenario.lan.host)?;
    let discover = server.wait_for(MessageType::Discover, 2, SOON)?;
    let socket = FrameSocket::open(&scenario.lan.lan, Lan::SERVER_LINK)?;
    let mut reply = discover.payload().to_vec();
    reply[0] = 2; // BOOTREPLY
    let mut sent = 0;
    for header_words in 0..16 {
        for total in (0..48).chain([28 + reply.len() as u16, u16::MAX]) {
            for udp in [0, 7, 8, 9, 8 + reply.len() as u16, u16::MAX] {
                let frame = misfit(socket.mac, &reply, header_words, total, udp);
                // Some arrive cut off in the middle of a header.
                let end = if udp == 9 {
                    14 + usize::from(total)
                } else {
                    frame.len()
                };
                socket.send(&frame[..end.clamp(14, frame.len())], 0)?;
                sent += 1;
            }
        }
    }
    server.behave();
    adding
        .finish()?
        .success()
        .with_context(|| format!("{sent} frames were sent"))?;
    network.check(&network::Attachment::new(&old))
}

/// A broadcast of this reply to a DHCP client, with these lengths in its headers: of the IPv4 header
/// in words, of the packet and of the datagram in octets.
fn misfit(mac: [u8; 6], reply: &[u8], header_words: u8, total: u16, udp: u16) -> Vec<u8> {
    let mut ip = vec![0x40 | header_words, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend([10, 99, 0, 1]);
    ip.extend([255; 4]);
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let ports = [0, 67, 0, 68];
    [
        &[0xff; 6][..],
        &mac,
        &[8, 0],
        &ip,
        &ports,
        &udp.to_be_bytes(),
        &[0, 0],
        reply,
    ]
    .concat()
}

/// Octets that mean something to a terminal, a log or a shell.
const VENOM: &str = "a\u{1b}[2J\n1999-12-31 ERROR forged; $(reboot) `id`\r\0../../etc";

fn invalid_names_from_a_server_reach_no_result_file_or_log(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let options = vec![
        DhcpOption::Router(vec![[10, 99, 0, 1].into()]),
        DhcpOption::Hostname(VENOM.into()),
        DhcpOption::DomainName(VENOM.into()),
        DhcpOption::DomainNameServer(vec![
            [224, 0, 0, 1].into(),
            [255; 4].into(),
            [10, 99, 0, 1].into(),
        ]),
    ];
    let _server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            options,
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    let result = Network::new(&scenario.lan.host, scenario.dhcp())
        .add(&network::Attachment::new(&container))?;
    reported(&result, &container)?;
    ensure!(
        result["dns"]["nameservers"] == json!(["10.99.0.1"]),
        "{result}"
    );
    // Words that are names may be taken for names; nothing else is.
    let is_name = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    let search = result["dns"]["search"].as_array().into_iter().flatten();
    let mut names = search
        .chain([&result["dns"]["domain"]])
        .filter_map(Value::as_str);
    ensure!(names.all(is_name), "{result}");
    let log = scenario.daemon.log();
    ensure!(
        log.lines()
            .all(|line| !line.starts_with("1999-12-31 ERROR")),
        "{log}"
    );
    ensure!(
        !log.contains('\u{1b}') && !log.contains('\r') && !log.contains('\0'),
        "{log}"
    );
    for file in lease_files()? {
        let text = fs::read_to_string(&file)?;
        // What was said is kept in hexadecimal digits.
        ensure!(
            !text.contains("forged") && !text.contains('\u{1b}') && !text.contains("\\u00"),
            "{text}"
        );
    }
    Ok(())
}

fn an_address_that_no_host_can_have_is_not_leased(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let impatient = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "500ms" })),
    );
    for yiaddr in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 9, 9, 9],
        [255; 4],
    ] {
        let yiaddr = Ipv4Addr::from(yiaddr);
        let give = move |message: &mut Message| {
            message.set_yiaddr(yiaddr);
        };
        server.behave();
        // In the OFFER, and in the ACK alone.
        server
            .when(MessageType::Discover)
            .once()
            .then(Reaction::answer().edit(give));
        server
            .when(MessageType::Request)
            .then(Reaction::answer().edit(give));
        let error = network::cni_error(impatient.add(&network::Attachment::new(&container)));
        ensure!(error.code == 11, "{yiaddr}: {error:?}");
        ensure_nothing_left(&container)?;
    }
    server.behave();
    reported(
        &network.add(&network::Attachment::new(&container))?,
        &container,
    )?;
    Ok(())
}

fn a_lease_of_zero_seconds_is_refused(world: &World) -> Result {
    let scenario = Scenario::with_daemon(world, &["-resendtimeout", "1s"])?;
    let settings = Settings {
        lease_time: Some(Duration::ZERO),
        ..Settings::default()
    };
    let _server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(error.code == 11, "{error:?}");
    ensure_nothing_left(&container)
}

fn a_lease_of_one_second_is_renewed_in_time(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        lease_time: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&network::Attachment::new(&container))?;
    let sixth = server.wait_for(MessageType::Request, 6, SOON)?;
    until("it has its address", SOON, || address(&container).is_ok())?;
    // As often as that, and no oftener.
    let received = server.received().into_iter();
    let until_then = received.take_while(|packet| packet.at <= sixth.at).count();
    ensure!(until_then < 20, "{}", server.transcript());
    Ok(())
}

fn an_infinite_lease_never_expires(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            lease_time: None,
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&network::Attachment::new(&container))?;
    network.check(&network::Attachment::new(&container))?;
    let text = fs::read_to_string(
        lease_files()?
            .first()
            .context("a lease that is written down")?,
    )?;
    ensure!(!text.contains("\"expires\""), "{text}");
    network.del(&network::Attachment::new(&container))?;
    until("it is given back", SOON, || server.leases().is_empty())?;
    Ok(())
}

fn invalid_masks_mtus_and_routes_are_ignored(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let net = |text: &str| text.parse();
    let options = vec![
        DhcpOption::Router(vec![
            [127, 0, 0, 1].into(),
            [224, 0, 0, 1].into(),
            [10, 99, 0, 1].into(),
        ]),
        DhcpOption::InterfaceMtu(68),
        DhcpOption::ClasslessStaticRoute(vec![
            (net("10.0.0.0/8")?, [224, 0, 0, 1].into()),
            (net("11.0.0.0/8")?, [127, 0, 0, 1].into()),
            (net("12.0.0.0/8")?, [255; 4].into()),
            (net("13.0.0.0/8")?, [10, 99, 0, 1].into()),
        ]),
    ];
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            options,
            ..Settings::default()
        },
    )?;
    let mask = |message: &mut Message| {
        message
            .opts_mut()
            .insert(DhcpOption::SubnetMask(Ipv4Addr::UNSPECIFIED));
    };
    server
        .when(MessageType::Discover)
        .then(Reaction::answer().edit(mask));
    server
        .when(MessageType::Request)
        .then(Reaction::answer().edit(mask));
    let container = scenario.lan.container("c1")?;
    let result = Network::new(&scenario.lan.host, scenario.dhcp())
        .add(&network::Attachment::new(&container))?;
    let leased = container.ipv4("eth0")?;
    ensure!(
        leased.len() == 1 && leased[0].prefix_len() > 0,
        "{leased:?}"
    );
    ensure!(
        container.link("eth0")?.mtu == 1500,
        "{:?}",
        container.link("eth0")?
    );
    let routes: Vec<&str> = result["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|route| route["dst"].as_str())
        .collect();
    ensure!(routes == ["13.0.0.0/8"], "{result}");
    Ok(())
}

fn the_message_of_a_nak_cannot_forge_log_lines(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, conflist(json!({})))
        .add(&network::Attachment::new(&container))?;
    let container = scenario.lan.container("c2")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak().edit(|message| {
            message.opts_mut().insert(DhcpOption::Message(VENOM.into()));
        }));
    until("the NAK is heard", SOON, || {
        scenario.daemon.log().contains("address lost")
    })?;
    let log = scenario.daemon.log();
    ensure!(
        log.lines()
            .all(|line| line.starts_with("20") && !line.starts_with("1999-12-31 ERROR")),
        "{log}"
    );
    ensure!(
        !log.contains('\u{1b}') && !log.contains('\r') && !log.contains('\0'),
        "{log}"
    );
    Ok(())
}
