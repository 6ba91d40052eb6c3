//! Our messages as read by an independent decoder, and compared with those of the Go plugin.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Packet, Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::{Call, DEBIANS_PLUGINS};
use lab::serde_json::json;
use lab::suite::packages::{self, Package};
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};

use super::{asked_for, client_id};
use crate::scenario::{SOON, Scenario, address, conflist, decoded};

pub(super) const TESTS: &[Test] = &[
    test!(tshark_finds_every_message_well_formed).needs(&[TSHARK]),
    test!(each_plugin_works_with_the_go_version_of_the_other).needs(&[packages::GO_PLUGINS]),
    test!(messages_differ_from_the_go_plugins_only_where_intended).needs(&[packages::GO_PLUGINS]),
];

const TSHARK: Package = Package::new("tshark", "tshark");

/// What a BOOTP message is padded to (RFC 1542 §2.1).
const MIN_BOOTP_LENGTH: usize = 300;

fn tshark_finds_every_message_well_formed(world: &World) -> Result {
    let frames = every_message(world)?;
    let file = world.dir().join("ours.pcap");
    fs::write(&file, pcap(&frames))?;
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=|", "-n"]);
    for preference in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        command.args(["-o", preference]);
    }
    for field in [
        "dhcp.option.dhcp",
        "ip.checksum.status",
        "udp.checksum.status",
        "_ws.malformed",
        "_ws.expert.message",
    ] {
        command.args(["-e", field]);
    }
    let output = command
        .env("HOME", world.dir())
        .output()
        .context("run tshark")?;
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success() && text.lines().count() == frames.len(),
        "{text}\n{errors}"
    );

    /// "Good" of tshark's checksum status.
    const GOOD: &str = "1";
    let mut kinds = BTreeSet::new();
    for (packet, line) in frames.iter().zip(text.lines()) {
        let [kind, ip, udp, malformed, expert] = line.split('|').collect::<Vec<_>>()[..] else {
            lab::anyhow::bail!("not the fields that were asked for: {line}");
        };
        ensure!(ip == GOOD && udp == GOOD, "{line}: {packet:?}");
        ensure!(
            malformed.is_empty() && expert.is_empty(),
            "{line}: {packet:?}"
        );
        ensure!(
            packet.payload().len() >= MIN_BOOTP_LENGTH,
            "{} octets: {packet:?}",
            packet.payload().len()
        );
        kinds.insert(kind.to_owned());
    }
    // DISCOVER, REQUEST, DECLINE, RELEASE.
    ensure!(
        kinds == ["1", "3", "4", "7"].map(str::to_owned).into(),
        "{kinds:?}"
    );
    Ok(())
}

/// What a client sends in a life in which everything happens, with every option that it can send.
fn every_message(world: &World) -> Result<Vec<Packet>> {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    // The first address is taken: DECLINE.
    scenario.lan.lan.add_address(
        Lan::SERVER_LINK,
        "10.99.0.100/24".parse::<ipnet::Ipv4Net>()?.into(),
    )?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({
        "clientId": { "text": "x".repeat(254) },
        "fqdn": "web.example.com",
        "conflictDetection": "fast",
        "requestedAddress": "10.99.0.100",
        "provide": [
            { "option": "vendor-class-identifier", "value": "leasehold" },
            { "option": "user-class", "value": "pods" },
            { "option": "43", "hex": "0102ffff" },
        ],
    });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    // RENEWING in vain, REBINDING.
    let requests = server.received_of(MessageType::Request).len();
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::silence());
    server.wait_for(MessageType::Request, requests + 2, SOON)?;
    scenario.wait_for_renewal()?;
    // INIT-REBOOT.
    scenario.lan.lan.set_down(Lan::SERVER_LINK)?;
    until("the carrier is gone", SOON, || {
        scenario
            .lan
            .host
            .link(Lan::MASTER)
            .is_ok_and(|link| !link.carrier)
    })?;
    scenario.lan.lan.set_up(Lan::SERVER_LINK)?;
    until("it is confirmed", SOON, || {
        server
            .received_of(MessageType::Request)
            .iter()
            .skip(requests)
            .any(|request| decoded(request).is_ok_and(|message| message.ciaddr().is_unspecified()))
    })?;
    until("there is an address", SOON, || address(&container).is_ok())?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    Ok(server.received())
}

/// A capture file (the classic format, link type Ethernet).
fn pcap(packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (second, packet) in (0_u32..).zip(packets) {
        let length = packet.frame.len() as u32;
        for word in [second, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&packet.frame);
    }
    file
}

/// A default configuration, the same container, the same server.
fn messages_differ_from_the_go_plugins_only_where_intended(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let container = lan.container("c1")?;
    Network::new(&lan.host, conflist(json!({}))).add(&Attachment::new(&container))?;
    let go = asked_by(world, &lan, &server, &container, Path::new(DEBIANS_PLUGINS))?;
    let ours = asked_by(world, &lan, &server, &container, lab::suite::plugin_dir())?;
    for (kind, go, ours) in [
        ("DISCOVER", &go[0], &ours[0]),
        ("REQUEST", &go[1], &ours[1]),
    ] {
        ensure!(
            client_id(ours) == client_id(go) && client_id(go).is_some(),
            "{kind}:\n{ours:?}\n{go:?}"
        );
        // Our parameter request list is longer, and includes theirs.
        let (theirs, more) = (asked_for(go)?, asked_for(ours)?);
        ensure!(
            theirs.iter().all(|code| more.contains(code)),
            "{kind}: {theirs:?}, {more:?}"
        );
        // They count from 0 at the start, which some servers refuse.
        ensure!(
            decoded(ours)?.secs() == 1 && decoded(go)?.secs() == 0,
            "{kind}: secs"
        );
    }
    let only_ours = |nth: usize| -> Result<Vec<u8>> {
        let (go, ours) = (codes(&go[nth])?, codes(&ours[nth])?);
        ensure!(
            go.is_subset(&ours),
            "theirs alone: {:?}",
            go.difference(&ours)
        );
        Ok(ours.difference(&go).copied().collect())
    };
    // 57: how long a message may be. 80: rapid commit.
    ensure!(only_ours(0)? == [57, 80], "DISCOVER: {:?}", only_ours(0)?);
    ensure!(only_ours(1)? == [57], "REQUEST: {:?}", only_ours(1)?);
    Ok(())
}

/// Only one of the two has been replaced.
fn each_plugin_works_with_the_go_version_of_the_other(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let only = |plugin: &str| -> Result<Vec<PathBuf>> {
        let folder = world.dir().join(format!("only-{plugin}"));
        fs::create_dir(&folder)?;
        std::os::unix::fs::symlink(lab::suite::plugin_dir().join(plugin), folder.join(plugin))?;
        Ok(vec![folder, DEBIANS_PLUGINS.into()])
    };
    let network = Network::with_path(&scenario.lan.host, scenario.dhcp(), only("dhcp")?);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    // The Go macvlan sets the address for ever; a renewal knows better.
    until("the address has a lifetime", SOON, || {
        container
            .addresses("eth0")
            .is_ok_and(|all| all.iter().any(|address| address.valid.is_some()))
    })?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;

    let conflist = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    let socket = daemon.socket().to_owned();
    daemon.stop()?;
    let _ = fs::remove_file(socket);
    let _daemon = Daemon::start_program(
        world,
        &lan.host,
        &Path::new(DEBIANS_PLUGINS).join("dhcp"),
        &[],
    )?;
    let network = Network::with_path(&lan.host, conflist, only("macvlan")?);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    Ok(())
}

/// The DISCOVER and the REQUEST with which these plugins lease an address, which they then give
/// back.
fn asked_by(
    world: &World,
    lan: &Lan,
    server: &DhcpServer,
    container: &Node,
    plugins: &Path,
) -> Result<[Packet; 2]> {
    let before =
        [MessageType::Discover, MessageType::Request].map(|kind| server.received_of(kind).len());
    let daemon = Daemon::start_program(world, &lan.host, &plugins.join("dhcp"), &[])?;
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "macvlan",
        "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() },
    });
    let call = |verb| -> Result {
        let call = Call::of(plugins.join("dhcp"), &[plugins], verb).config(&config);
        call.container(container.name())
            .netns(container.path())
            .ifname("eth0")
            .run(&lan.host)?
            .success()?;
        Ok(())
    };
    call("ADD")?;
    call("DEL")?;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    // The Go daemon would not start with its predecessor's socket in place.
    let _ = fs::remove_file(socket);
    Ok([
        server.wait_for(MessageType::Discover, before[0] + 1, SOON)?,
        server.wait_for(MessageType::Request, before[1] + 1, SOON)?,
    ])
}

/// The codes of a message's options.
fn codes(packet: &Packet) -> Result<BTreeSet<u8>> {
    Ok(decoded(packet)?
        .opts()
        .iter()
        .map(|(code, _)| u8::from(*code))
        .collect())
}
