//! What does not get through below DHCP: messages that cannot be sent, and frames that cannot be
//! read.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::network::cni_error;
use lab::plugin::Call;
use lab::serde_json::json;
use lab::suite::packages::IPROUTE2;
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, suite, test, until,
};

use super::independence::NFTABLES;
use super::set_mtu;
use crate::persistence::ipam_alone;
use crate::scenario::{SOON, Scenario, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(messages_that_do_not_fit_the_mtu_are_an_error_of_the_configuration),
    test!(only_messages_that_were_sent_are_counted_as_sent).needs(&[NFTABLES]),
    test!(frames_that_cannot_be_read_are_counted_in_the_error),
    test!(an_answer_in_a_vlan_is_not_the_links_and_one_with_a_priority_is),
    test!(a_jumbo_answer_is_read_whole).needs(&[IPROUTE2]),
    test!(a_release_that_cannot_be_sent_is_sent_by_the_next_daemon),
    test!(a_release_that_cannot_be_sent_is_sent_later),
    test!(a_release_without_a_carrier_is_sent_when_the_carrier_is_back),
    test!(an_interface_that_is_down_is_set_up_for_the_release),
];

fn messages_that_do_not_fit_the_mtu_are_an_error_of_the_configuration(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let option = |code: u8| json!({ "option": code.to_string(), "value": "x".repeat(250) });
    let provide: Vec<_> = (224..230).map(option).collect();
    let conflist = scenario.dhcp_with(json!({ "provide": provide }));
    let attachment = Attachment::new(&container);
    let error = cni_error(Network::new(&scenario.lan.host, conflist).add(&attachment));
    ensure!(
        error.code == 7 && error.msg.contains("do not fit into its MTU of 1500"),
        "{error:?}"
    );
    ensure!(server.received().is_empty(), "{}", server.transcript());
    Ok(())
}

/// A firewall that drops what leaves an interface makes sending fail.
fn only_messages_that_were_sent_are_counted_as_sent(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    let host = &scenario.lan.host;
    Network::new(host, conflist(json!({}))).add(&Attachment::new(&container))?;
    let chain = "type filter hook egress device eth0 priority 0; policy drop;";
    let rules = format!("add table netdev t; add chain netdev t c {{ {chain} }}");
    container.output(&["nft", &rules])?;

    let socket = scenario.daemon.socket();
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket, "timeout": "4s" });
    let config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "dhcp", "ipam": ipam });
    let add = ipam_alone("ADD", &container, socket)?
        .config(&config)
        .start(host)?;
    until("a message cannot be sent", SOON, || {
        scenario.daemon.log().contains("cannot send a message")
    })?;
    container.output(&["nft", "delete table netdev t"])?;
    let error = add.finish()?.error()?;
    let heard = server.received_of(MessageType::Discover).len();
    let counted = format!("sent {heard} DISCOVER, ");
    ensure!(
        heard > 0 && error.details.contains(&counted),
        "{heard} were heard: {error:?}"
    );
    ensure!(error.details.contains("could not be sent"), "{error:?}");
    Ok(())
}

/// Where a frame has its UDP checksum, and the flags of its IP header.
const UDP_CHECKSUM: usize = 40;
const IP_FLAGS: usize = 20;
const IP_CHECKSUM: usize = 24;
const MORE_FRAGMENTS: u8 = 0x20;

fn frames_that_cannot_be_read_are_counted_in_the_error(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "600ms" })),
    );
    let wrong_checksum = Reaction::answer().mangle_frame(|frame| frame[UDP_CHECKSUM] ^= 0x55);
    let fragment = Reaction::answer().mangle_frame(|frame| {
        frame[IP_FLAGS] ^= MORE_FRAGMENTS;
        // The checksum is the complement of a sum, to which the flag was added.
        let checksum = u16::from_be_bytes([frame[IP_CHECKSUM], frame[IP_CHECKSUM + 1]]);
        let (sum, carry) = (!checksum).overflowing_add(u16::from(MORE_FRAGMENTS) << 8);
        let checksum = !(sum + u16::from(carry));
        frame[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    });
    for (reaction, counted) in [
        (wrong_checksum, "1 frame dropped: wrong UDP checksum"),
        (fragment, "1 frame dropped: IP fragment"),
    ] {
        server.when(MessageType::Discover).once().then(reaction);
        server.when(MessageType::Discover).then(Reaction::silence());
        let error = cni_error(network.add(&Attachment::new(&container)));
        ensure!(
            error.code == 11 && error.details.contains(counted),
            "{counted}: {error:?}"
        );
        server.behave();
    }
    Ok(())
}

fn an_answer_in_a_vlan_is_not_the_links_and_one_with_a_priority_is(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "600ms" })),
    );
    // A tag of IEEE 802.1Q stands before the EtherType.
    let tagged = |tag: [u8; 2]| {
        Reaction::answer().mangle_frame(move |frame| {
            drop(frame.splice(12..12, [0x81, 0, tag[0], tag[1]]));
        })
    };
    let (vlan_5, priority_5) = ([0, 5], [5 << 5, 0]);
    server.when(MessageType::Discover).then(tagged(vlan_5));
    let error = cni_error(network.add(&Attachment::new(&container)));
    ensure!(error.code == 11, "{error:?}");
    server.behave();
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(tagged(priority_5));
    }
    network.add(&Attachment::new(&container))?;
    Ok(())
}

fn a_jumbo_answer_is_read_whole(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    for (node, link) in [
        (&scenario.lan.lan, Lan::SERVER_LINK),
        (&scenario.lan.host, Lan::MASTER),
    ] {
        node.output(&["ip", "link", "set", link, "mtu", "9000"])?;
    }
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    // Mask and router come behind 6 KiB of other options.
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::answer().mangle(|payload| {
            const OPTIONS: usize = 240;
            let options = [&[224, 250][..], &[0; 250]].concat().repeat(24);
            payload.splice(OPTIONS..OPTIONS, options);
        }));
    }
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    scenario.wait_for_renewal()?;
    ensure!(
        container.ipv4("eth0")?[0].prefix_len() == Lan::NET.prefix_len(),
        "{:?}",
        container.ipv4("eth0")?
    );
    network.check(&attachment)
}

/// The MTU is too small at DEL, and large again when the next daemon starts.
fn a_release_that_cannot_be_sent_is_sent_by_the_next_daemon(world: &World) -> Result {
    let (scenario, server, container) = with_unsent_release(world)?;
    set_mtu(&container, 1500)?;
    let Scenario { lan, daemon } = scenario;
    daemon.stop()?;
    let daemon = Daemon::start(world, &lan.host)?;
    server
        .wait_for(MessageType::Release, 1, SOON)
        .with_context(|| daemon.log())?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

/// The MTU is too small at DEL, and large again some time later.
fn a_release_that_cannot_be_sent_is_sent_later(world: &World) -> Result {
    let (scenario, server, container) = with_unsent_release(world)?;
    set_mtu(&container, 1500)?;
    server
        .wait_for(MessageType::Release, 1, Duration::from_secs(25))
        .with_context(|| scenario.daemon.log())?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty() && scenario.daemon.log().contains("address released")
    })
}

/// The kernel takes what is sent without a carrier, and drops it.
fn a_release_without_a_carrier_is_sent_when_the_carrier_is_back(world: &World) -> Result {
    let (scenario, server, container) = leased(world)?;
    let lan = &scenario.lan;
    lan.lan.set_down(Lan::SERVER_LINK)?;
    until("the container has no carrier", SOON, || {
        container.link("eth0").is_ok_and(|link| !link.carrier)
    })?;
    end_unsent(&scenario, &server, &container)?;
    lan.lan.set_up(Lan::SERVER_LINK)?;
    server
        .wait_for(MessageType::Release, 1, Duration::from_secs(25))
        .with_context(|| scenario.daemon.log())
        .map(drop)
}

fn an_interface_that_is_down_is_set_up_for_the_release(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let conflists = [
        scenario.dhcp(),
        scenario.dhcp_with(json!({ "release": "ifUnused" })),
    ];
    for (nth, conflist) in conflists.into_iter().enumerate() {
        let container = scenario.lan.container(&format!("c{nth}"))?;
        let network = Network::new(&scenario.lan.host, conflist);
        network.add(&Attachment::new(&container))?;
        container.set_down("eth0")?;
        network.del(&Attachment::new(&container))?;
        until("the lease is given back", SOON, || {
            server.leases().is_empty()
        })
        .with_context(|| scenario.daemon.log())?;
        ensure_nothing_left(&container)?;
    }
    Ok(())
}

/// A container whose address could not be released at DEL, because its MTU was too small.
fn with_unsent_release(world: &World) -> Result<(Scenario, DhcpServer, Node)> {
    let (scenario, server, container) = leased(world)?;
    set_mtu(&container, 68)?;
    end_unsent(&scenario, &server, &container)?;
    Ok((scenario, server, container))
}

/// A container with a lease.
fn leased(world: &World) -> Result<(Scenario, DhcpServer, Node)> {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    Ok((scenario, server, container))
}

/// DEL of a container that can send no RELEASE now.
fn end_unsent(scenario: &Scenario, server: &DhcpServer, container: &Node) -> Result {
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "macvlan",
        "ipam": { "type": "dhcp", "daemonSocketPath": scenario.daemon.socket() },
    });
    // The interface stays, as if the runtime had been killed before it removed it.
    let dhcp = suite::plugin_dir().join("dhcp");
    Call::of(dhcp, &[suite::plugin_dir()], "DEL")
        .config(&config)
        .container(container.name())
        .netns(container.path())
        .ifname("eth0")
        .run(&scenario.lan.host)?
        .success()?;
    let log = scenario.daemon.log();
    ensure!(
        log.contains("address not released: the RELEASE cannot be sent")
            && !log.contains("address released"),
        "{log}"
    );
    ensure!(server.leases().len() == 1, "{:?}", server.leases());
    Ok(())
}
