//! Floods: of frames on a LAN, and of lines in the log.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::json;
use lab::{Daemon, DhcpServer, Lan, Network, Result, Test, World, deadline, network, test};
use linknet::{Mac, PacketSocket};

use crate::limits::dhcp;
use crate::scenario::{SOON, Scenario};

pub(crate) const TESTS: &[Test] = &[
    test!(of_a_flood_of_replies_to_one_client_the_daemon_reads_little),
    test!(lines_that_repeat_are_counted),
];

fn of_a_flood_of_replies_to_one_client_the_daemon_reads_little(world: &World) -> Result {
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    let lan = Lan::new()?;
    let healthy = lan.container("server")?;
    lan.host.add_veth("eth2", (&healthy, Lan::SERVER_LINK))?;
    lan.host.set_up("eth2")?;
    healthy.add_address(Lan::SERVER_LINK, Lan::NET.into())?;
    healthy.set_up(Lan::SERVER_LINK)?;
    let _server = DhcpServer::start(&healthy, Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let mut flooded = dhcp(daemon.socket());
    flooded["plugins"][0]["mac"] = json!(MAC.to_string());
    flooded["plugins"][0]["ipam"]["timeout"] = json!("3s");
    let mut other = dhcp(daemon.socket());
    other["name"] = json!("other");
    other["plugins"][0]["master"] = json!("eth2");
    let (flooded, other) = (
        Network::new(&lan.host, flooded),
        Network::new(&lan.host, other),
    );
    let (c1, c2) = (lan.container("c1")?, lan.container("c2")?);

    let is_over = AtomicBool::new(false);
    let flood = || lan.lan.run(|| flood(MAC, &is_over))?;
    let (sent, error) = thread::scope(|scope| -> Result<_> {
        let flooding = scope.spawn(flood);
        let c1 = network::Attachment::new(&c1);
        let adding = scope.spawn(move || network::cni_error(flooded.add(&c1)));
        let attachment = network::Attachment::new(&c2);
        let mut rounds = 0;
        let mut on_the_other = Ok(());
        while on_the_other.is_ok() && !adding.is_finished() {
            let added = other.add(&attachment).map(drop);
            on_the_other = added.and_then(|()| other.del(&attachment));
            rounds += 1;
        }
        let error = adding.join().map_err(|_| anyhow!("it panicked"))?;
        is_over.store(true, Ordering::Relaxed);
        let sent = flooding.join().map_err(|_| anyhow!("it panicked"))??;
        on_the_other?;
        eprintln!("{sent} frames; {rounds} containers on the other network meanwhile");
        Ok((sent, error))
    })?;
    let received = error.details.split("received ").nth(1);
    let received = received.and_then(|rest| rest.split(' ').next());
    let received: u64 = received.context("a number")?.parse()?;
    // 16 in each tenth of a second.
    ensure!(
        (1..=600).contains(&received) && sent > 10 * received,
        "read {received} of {sent} frames: {error:?}"
    );
    Ok(())
}

/// Sends replies of another transaction to a client until it is over, and returns how many.
fn flood(mac: Mac, is_over: &AtomicBool) -> Result<u64> {
    let index = linknet::Netlink::open()?.link(Lan::SERVER_LINK)?;
    let socket = PacketSocket::open(index.context("a link")?.index, 67)?;
    let mut reply = vec![0; 300];
    reply[..4].copy_from_slice(&[2, 1, 6, 0]);
    reply[28..34].copy_from_slice(&mac.octets());
    reply[236..243].copy_from_slice(&[99, 130, 83, 99, 53, 1, 2]); // an OFFER
    reply[243] = 255;
    let from = SocketAddrV4::new(Lan::ADDRESS, 67);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        // The link's queue may be full.
        sent += u64::from(socket.send(mac, from, to, &reply).is_ok());
    }
    Ok(sent)
}

fn lines_that_repeat_are_counted(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    for number in 0..50 {
        let mut stream = UnixStream::connect(scenario.daemon.socket())?;
        stream.set_read_timeout(Some(deadline(SOON)))?;
        writeln!(stream, "no request, nor the {number}th")?;
        stream.read_to_end(&mut Vec::new())?;
    }
    scenario.daemon.process().stop()?;
    let log = scenario.daemon.log();
    let refused = log.matches("WARN request refused").count();
    ensure!(refused == 10, "{refused}: {log}");
    ensure!(
        log.contains("more lines like this: request refused times=4"),
        "{log}"
    );
    Ok(())
}
