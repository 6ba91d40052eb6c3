//! Callers that are refused, that hang up, and that send what netavark never sends.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{
    Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, deadline, network, suite, test,
    until,
};

use super::client::{Proxy, framed};
use super::messages::{Lease, NetworkConfig};
use super::{Podman, config};
use crate::chaos::{Random, clock, from_environment};
use crate::scenario::{SOON, address, conflist, reported};

pub(super) const TESTS: &[Test] = &[
    test!(a_caller_that_hangs_up_leaves_nothing),
    test!(a_request_for_no_interface_or_another_is_refused),
    test!(a_network_without_a_server_is_diagnosed),
    test!(both_sockets_serve_both_protocols),
    test!(a_second_listener_on_netavarks_socket_is_refused),
    test!(during_a_takeover_netavark_is_not_refused),
    test!(a_successor_that_does_not_answer_netavark_removes_its_socket),
    test!(what_is_no_call_is_refused_and_disturbs_nobody),
    test!(silent_callers_are_hung_up_on),
    test!(a_connection_serves_a_limited_number_of_calls),
    test!(calls_with_changed_octets_disturb_nobody).within(Duration::from_secs(60)),
];

fn a_caller_that_hangs_up_leaves_nothing(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
        let begun = podman.proxy.begin(&config)?;
        server.wait_for(kind, 1, SOON)?;
        let hung_up = podman.daemon.log().matches("netavark hung up").count();
        drop(begun);
        until("the daemon notices", SOON, || {
            podman.daemon.log().matches("netavark hung up").count() > hung_up
        })?;
        ensure!(container.ipv4("eth0")?.is_empty());
        server.behave();
        server.take_received();
    }
    until("what was offered is given back", SOON, || {
        server.leases().is_empty()
    })?;
    for directory in fs::read_dir("/var/lib/cni")?.flatten() {
        let network = directory.path().join("netavark");
        for file in fs::read_dir(network).into_iter().flatten().flatten() {
            let record = fs::read_to_string(file.path())?;
            ensure!(!record.contains("\"held\""), "{record}");
        }
    }
    podman.proxy.lease(&config)?;
    Ok(())
}

fn a_request_for_no_interface_or_another_is_refused(world: &World) -> Result {
    const UNKNOWN: u16 = 2;
    const INVALID_ARGUMENT: u16 = 3;
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let good = config(&container, "eth0")?;
    type Change = fn(&mut NetworkConfig);
    let cases: [(Change, u16, &str); 9] = [
        (|it| it.container_iface.clear(), UNKNOWN, "No such device"),
        (
            |it| it.container_iface = "veth990".into(),
            INVALID_ARGUMENT,
            "No such device",
        ),
        (
            |it| it.container_iface = "a/b".into(),
            INVALID_ARGUMENT,
            "No such device",
        ),
        (
            |it| it.container_iface = "lo".into(),
            INVALID_ARGUMENT,
            "MAC address",
        ),
        (
            |it| it.container_mac_addr.clear(),
            INVALID_ARGUMENT,
            "unable to parse mac address ",
        ),
        (
            |it| it.container_mac_addr = "123".into(),
            INVALID_ARGUMENT,
            "unable to parse mac address 123",
        ),
        (
            |it| it.container_mac_addr = "02:00:00:00:00:01".into(),
            INVALID_ARGUMENT,
            "02:00:00:00:00:01",
        ),
        (
            |it| it.ns_path = "/run/netns/none".into(),
            INVALID_ARGUMENT,
            "/run/netns/none",
        ),
        (|it| it.version = 1, INVALID_ARGUMENT, "DHCPv6"),
    ];
    for (change, code, text) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let failed = podman.proxy.refused(&bad)?;
        ensure!(
            failed.code == code && failed.text.contains(text),
            "{failed:?}: {code} {text}"
        );
    }
    let mut relative = good.clone();
    relative.ns_path = "run/netns/c1".into();
    ensure!(podman.proxy.refused(&relative)?.text.contains("absolute"));
    ensure!(server.received().is_empty(), "{}", server.transcript());
    podman.proxy.lease(&good)?;
    Ok(())
}

fn a_network_without_a_server_is_diagnosed(world: &World) -> Result {
    const UNAVAILABLE: u16 = 14;
    let podman = Podman::new(world)?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    let failed = podman.proxy.refused(&config)?;
    ensure!(failed.code == UNAVAILABLE, "{failed:?}");
    for part in ["no address for eth0 within 10s", "DISCOVER"] {
        ensure!(failed.text.contains(part), "{failed:?}");
    }
    ensure!(container.ipv4("eth0")?.is_empty());
    Ok(())
}

fn both_sockets_serve_both_protocols(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let _server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let by_netavark = podman.container("c1")?;
    let proxy = Proxy::at(podman.daemon.socket());
    proxy.lease(&config(&by_netavark, "eth0")?)?;
    let by_plugin = podman.lan.container("c2")?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": podman.socket });
    let network = Network::new(&podman.lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&by_plugin);
    reported(&network.add(&attachment)?, &by_plugin)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(address(&by_netavark).is_ok());
    podman.proxy.teardown(&config(&by_netavark, "eth0")?)?;
    ensure!(by_netavark.ipv4("eth0")?.is_empty());
    Ok(())
}

fn a_second_listener_on_netavarks_socket_is_refused(world: &World) -> Result {
    let lan = Lan::new()?;
    let socket = world.dir().join("nv-proxy.sock");
    let _theirs = UnixListener::bind(&socket)?;
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command.args(["daemon", "-podmansocket"]).arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "refused", command)?;
    ensure!(!daemon.wait(SOON)?.success());
    let log = daemon.log();
    let said = log.contains("nv-proxy.sock") && log.contains("is listening");
    ensure!(said, "{log}");
    Ok(())
}

fn during_a_takeover_netavark_is_not_refused(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let [first, second] = [podman.container("c1")?, podman.container("c2")?];
    podman.proxy.lease(&config(&first, "eth0")?)?;
    let socket = podman.socket.display().to_string();
    let is_done = AtomicBool::new(false);
    let successor = std::thread::scope(|scope| {
        // Somebody connects all the time.
        let caller = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                UnixStream::connect(&socket)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let arguments = ["-podmansocket", &socket, "-takeover"];
        let successor = Daemon::start_with(world, &podman.lan.host, &arguments);
        let is_ready = successor.and_then(|successor| {
            until("the successor is ready", 2 * SOON, || {
                successor.log().contains("dhcp daemon is ready")
            })?;
            Ok(successor)
        });
        is_done.store(true, Ordering::Relaxed);
        let connected = caller.join().map_err(|_| anyhow!("the caller panicked"))?;
        connected.context("somebody was refused")?;
        is_ready
    })?;
    // The listener's queue may still be full, and then a call that does not block is turned away:
    // whoever is last in it is hung up on when everybody before has been accepted.
    let mut last = UnixStream::connect(&socket)?;
    last.set_read_timeout(Some(deadline(SOON)))?;
    last.shutdown(Shutdown::Write)?;
    last.read_to_end(&mut Vec::new())?;
    podman.proxy.lease(&config(&second, "eth0")?)?;
    podman.proxy.teardown(&config(&first, "eth0")?)?;
    until("one is given back", SOON, || server.leases().len() == 1)?;
    successor.stop()?;
    ensure!(!podman.socket.exists(), "the daemon removes its socket");
    Ok(())
}

fn a_successor_that_does_not_answer_netavark_removes_its_socket(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let successor = Daemon::start_with(world, &podman.lan.host, &["-takeover"])?;
    until("the successor is ready", 2 * SOON, || {
        successor.log().contains("dhcp daemon is ready")
    })?;
    ensure!(!podman.socket.exists(), "nobody listens there");
    successor.stop()
}

fn what_is_no_call_is_refused_and_disturbs_nobody(world: &World) -> Result {
    const INTERNAL: u16 = 13;
    const UNIMPLEMENTED: u16 = 12;
    const INVALID_ARGUMENT: u16 = 3;
    const RESOURCE_EXHAUSTED: u16 = 8;
    let podman = Podman::new(world)?;
    let _server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    podman.proxy.lease(&config(&container, "eth0")?)?;
    for (method, body, code) in [
        ("Reboot", framed(b""), UNIMPLEMENTED),
        ("Setup", Vec::new(), INTERNAL),
        ("Setup", vec![0, 0, 0, 0, 9], INTERNAL),
        ("Setup", vec![1, 0, 0, 0, 0], UNIMPLEMENTED),
        ("Setup", framed(b"\x0a\xff"), INVALID_ARGUMENT),
        ("Teardown", framed(b"\x08\x01"), INVALID_ARGUMENT),
        ("Setup", framed(&vec![0; 1 << 20]), RESOURCE_EXHAUSTED),
    ] {
        let called = podman.proxy.call_with::<Lease>(method, body.clone())?;
        let refused = called.err().map(|failed| failed.code);
        ensure!(
            refused == Some(code),
            "{method} {} octets: {refused:?}",
            body.len()
        );
    }
    for octets in [
        &b"P"[..],
        b"PRI * HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut caller = UnixStream::connect(&podman.socket)?;
        caller.write_all(octets)?;
        caller.shutdown(Shutdown::Write)?;
        caller.set_read_timeout(Some(deadline(SOON)))?;
        // What comes back is HTTP/2's own; that the connection ends is enough. It may be reset.
        let _ = caller.read_to_end(&mut Vec::new());
    }
    let other = podman.container("c2")?;
    podman.proxy.lease(&config(&other, "eth0")?)?;
    let log = podman.daemon.log();
    ensure!(!log.contains("panicked"), "{log}");
    let expected: Ipv4Addr = [10, 99, 0, 100].into();
    ensure!(address(&container)? == expected);
    Ok(())
}

fn silent_callers_are_hung_up_on(world: &World) -> Result {
    let podman = Podman::new(world)?;
    for octets in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let mut caller = UnixStream::connect(&podman.socket)?;
        caller.write_all(octets)?;
        caller.set_read_timeout(Some(deadline(Duration::from_secs(12))))?;
        caller.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn a_connection_serves_a_limited_number_of_calls(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let served = podman.proxy.cleans_on_one_connection(100)?;
    ensure!(served == 64, "{served}");
    podman.proxy.clean()
}

fn calls_with_changed_octets_disturb_nobody(world: &World) -> Result {
    const CALLS: u64 = 400;
    let podman = Podman::new(world)?;
    let _server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let good = config(&container, "eth0")?;
    podman.proxy.lease(&good)?;
    let leased = address(&container)?;
    let mut none = good.clone();
    none.ns_path = "/run/netns/none".into();
    let call = recorded(world, &none)?;
    let seed = from_environment("LEASEHOLD_FUZZ_SEED").unwrap_or_else(clock);
    let mut random = Random(seed);
    for _ in 0..CALLS {
        let mut octets = call.clone();
        for _ in 0..=random.below(4) {
            // Behind the preface, which tells the protocol.
            let at = 24 + random.below(octets.len() as u64 - 24) as usize;
            match random.below(3) {
                0 => octets[at] ^= 1 << random.below(8),
                1 => octets.insert(at, random.below(256) as u8),
                _ => drop(octets.drain(at..(at + 4).min(octets.len()))),
            }
        }
        let mut caller = UnixStream::connect(&podman.socket)?;
        caller.set_read_timeout(Some(deadline(2 * SOON)))?;
        // The daemon may hang up before it has read everything.
        let _ = caller.write_all(&octets);
        let _ = caller.shutdown(Shutdown::Write);
        if let Err(error) = caller.read_to_end(&mut Vec::new()) {
            let is_reset = error.kind() == ErrorKind::ConnectionReset;
            ensure!(
                is_reset,
                "LEASEHOLD_FUZZ_SEED={seed}: {error}: {octets:02x?}"
            );
        }
    }
    let log = podman.daemon.log();
    ensure!(
        !log.contains("panicked"),
        "LEASEHOLD_FUZZ_SEED={seed}: {log}"
    );
    ensure!(address(&container)? == leased);
    podman.proxy.teardown(&good).map(drop)
}

/// What netavark sends for a Setup.
fn recorded(world: &World, config: &NetworkConfig) -> Result<Vec<u8>> {
    let path = world.dir().join("recorder.sock");
    let recorder = UnixListener::bind(&path)?;
    drop(Proxy::at(&path).begin(config)?);
    let mut call = Vec::new();
    recorder.accept()?.0.read_to_end(&mut call)?;
    ensure!(
        call.starts_with(b"PRI * HTTP/2.0") && call.len() > 200,
        "{call:02x?}"
    );
    Ok(call)
}
