//! `allow`: what comes in besides replies.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Node, Result, Test, World, deadline, test};

use super::{OWN, OWN6, container};
use crate::scenario::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(what_is_allowed_comes_in_and_nothing_else).needs(&[packages::GO_PLUGINS]),
    test!(replies_to_the_container_come_in).needs(&[packages::GO_PLUGINS]),
    test!(neighbours_and_pings_are_always_answered).needs(&[packages::GO_PLUGINS]),
    test!(without_a_list_everything_comes_in).needs(&[packages::GO_PLUGINS]),
];

/// Time enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(500);

/// Whether a TCP connection from one node to a program on the other comes about.
fn connects(from: &Node, to: (&Node, IpAddr), port: u16, within: Duration) -> Result<bool> {
    let (server, address) = to;
    let address = SocketAddr::new(address, port);
    let listener = server.run(|| TcpListener::bind(address))??;
    let connected = from.run(|| TcpStream::connect_timeout(&address, within))?;
    let Ok(mut client) = connected else {
        return Ok(false);
    };
    let (mut accepted, _) = listener.accept()?;
    accepted.write_all(b"hello")?;
    drop(accepted);
    let mut text = String::new();
    client.set_read_timeout(Some(deadline(SOON)))?;
    client.read_to_string(&mut text)?;
    Ok(text == "hello")
}

/// Whether a datagram from one node arrives at a program on the other.
fn arrives(from: &Node, to: (&Node, IpAddr), port: u16, within: Duration) -> Result<bool> {
    let (receiver, address) = to;
    let address = SocketAddr::new(address, port);
    let receiver = receiver.run(|| UdpSocket::bind(address))??;
    receiver.set_read_timeout(Some(within))?;
    let any: IpAddr = match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let sender = from.run(|| UdpSocket::bind((any, 0)))??;
    sender.send_to(b"hello", address)?;
    Ok(receiver.recv(&mut [0; 16]).is_ok())
}

fn listing(entries: &[&str]) -> Value {
    json!({ "allow": entries })
}

fn what_is_allowed_comes_in_and_nothing_else(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let ours = container(&lan, "c1", listing(&["tcp/443", "udp/5000-5010"]))?;
    for address in [IpAddr::from(OWN), OWN6.into()] {
        let to = (&ours, address);
        ensure!(
            connects(&lan.lan, to, 443, deadline(SOON))?,
            "{address}: tcp/443"
        );
        for port in [442, 444, 5000] {
            ensure!(
                !connects(&lan.lan, to, port, A_WHILE)?,
                "{address}: tcp/{port}"
            );
        }
        for port in [5000, 5005, 5010] {
            ensure!(
                arrives(&lan.lan, to, port, deadline(SOON))?,
                "{address}: udp/{port}"
            );
        }
        for port in [4999, 5011, 443] {
            ensure!(
                !arrives(&lan.lan, to, port, A_WHILE)?,
                "{address}: udp/{port}"
            );
        }
    }
    let theirs = lan.container("c2")?;
    let conflist = super::guarded(
        listing(&["from 10.99.0.0/30", "from fd99::1"]),
        &["10.99.0.70/24", "fd99::70/64"],
    );
    let network = lab::Network::new(&lan.host, conflist);
    network.add(&lab::Attachment::new(&theirs))?;
    for address in ["10.99.0.70", "fd99::70"] {
        let to = (&theirs, address.parse()?);
        // The LAN is 10.99.0.1 and fd99::1; the other container is neither.
        ensure!(
            connects(&lan.lan, to, 80, deadline(SOON))?,
            "{address} from the LAN"
        );
        ensure!(
            !connects(&ours, to, 80, A_WHILE)?,
            "{address} from a container"
        );
    }
    Ok(())
}

fn replies_to_the_container_come_in(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let ours = container(&lan, "c1", listing(&[]))?;
    for address in [IpAddr::from(Lan::ADDRESS), Lan::ADDRESS6.into()] {
        let to = (&lan.lan, address);
        ensure!(connects(&ours, to, 80, deadline(SOON))?, "{address}: TCP");
        ours.ping(address, SOON)?;
        // A datagram, and its answer.
        let address = SocketAddr::new(address, 53);
        let server = lan.lan.run(|| UdpSocket::bind(address))??;
        server.set_read_timeout(Some(deadline(SOON)))?;
        let echo = thread::spawn(move || -> std::io::Result<()> {
            let mut buffer = [0; 16];
            let (length, from) = server.recv_from(&mut buffer)?;
            server.send_to(&buffer[..length], from).map(drop)
        });
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let client = ours.run(|| UdpSocket::bind(any))??;
        client.set_read_timeout(Some(deadline(SOON)))?;
        client.send_to(b"hello", address)?;
        client.recv(&mut [0; 16]).context("an answer by UDP")?;
        echo.join()
            .map_err(|_| lab::anyhow::anyhow!("the echo panicked"))??;
    }
    Ok(())
}

fn neighbours_and_pings_are_always_answered(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let _ours = container(&lan, "c1", listing(&[]))?;
    for address in [IpAddr::from(OWN), OWN6.into()] {
        lan.lan.ping(address, SOON)?;
    }
    Ok(())
}

fn without_a_list_everything_comes_in(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let ours = container(&lan, "c1", json!(true))?;
    for address in [IpAddr::from(OWN), OWN6.into()] {
        let to = (&ours, address);
        ensure!(
            connects(&lan.lan, to, 8080, deadline(SOON))?,
            "{address}: TCP"
        );
        ensure!(
            arrives(&lan.lan, to, 8080, deadline(SOON))?,
            "{address}: UDP"
        );
    }
    Ok(())
}
