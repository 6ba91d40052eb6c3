//! In what order DEL takes an address from a container and gives it back.

use std::net::Ipv4Addr;
use std::time::Instant;

use lab::anyhow::ensure;
use lab::arp_watch::Answer;
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::{ArpWatch, Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, test};

use crate::persistence::ipam_alone;
use crate::scenario::{SOON, Scenario, address, decoded};

pub(super) const TESTS: &[Test] = &[
    test!(del_takes_the_address_off_before_it_releases_it),
    test!(no_address_is_answered_for_by_two_containers),
];

fn del_takes_the_address_off_before_it_releases_it(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let del = ipam_alone("DEL", &container, scenario.daemon.socket())?.start(&scenario.lan.host)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(
        container.ipv4("eth0")?.is_empty(),
        "the container still has {leased}"
    );
    ensure!(*release.source.ip() == leased, "{release:?}");
    del.finish()?.success()?;
    Ok(())
}

/// How many containers leave while as many come.
const CONTAINERS: u32 = 12;

/// How often they do.
const ROUNDS: usize = 4;

fn no_address_is_answered_for_by_two_containers(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    // The server gives the lowest address that is free, so one that was released is given next.
    let first = Settings::default().pool.start().to_bits();
    let addresses = (first..first + 2 * CONTAINERS).map(Ipv4Addr::from_bits);
    let watch = ArpWatch::start(&scenario.lan.lan, Lan::SERVER_LINK, addresses.collect())?;
    let mut there = Vec::new();
    for round in 0..ROUNDS {
        let coming = (0..CONTAINERS).map(|nth| scenario.lan.container(&format!("c{round}-{nth}")));
        let coming: Vec<Node> = coming.collect::<Result<_>>()?;
        let mut calls = Vec::new();
        for (nth, new) in coming.iter().enumerate() {
            for (verb, container) in [("DEL", there.get(nth)), ("ADD", Some(new))] {
                if let Some(container) = container {
                    let attachment = Attachment::new(container);
                    let call = network.prepare(verb, 0, &attachment, None)?;
                    calls.push(call.start(&scenario.lan.host)?);
                }
            }
        }
        for call in calls {
            call.finish()?.success()?;
        }
        there = coming;
    }
    ensure_one_holder(&watch.finish()?, &server)
}

/// An address, the MAC that it was leased to, and when that was.
type Leased = (Ipv4Addr, [u8; 6], Instant);

/// No station answers for an address after the server has leased it to another one.
fn ensure_one_holder(answers: &[Answer], server: &DhcpServer) -> Result {
    let sent = server.sent();
    let acks = sent
        .iter()
        .filter(|packet| packet.kind() == Some(MessageType::Ack));
    let leases = acks.map(|ack| Ok((decoded(ack)?.yiaddr(), ack.ethernet_destination, ack.at)));
    let leases: Vec<Leased> = leases.collect::<Result<_>>()?;
    let count = answers.len();
    ensure!(
        count > 100 && leases.len() >= 2 * CONTAINERS as usize,
        "{count} answers"
    );
    for answer in answers {
        let of_address = leases
            .iter()
            .filter(|(leased, ..)| *leased == answer.address);
        let (own, others): (Vec<&Leased>, Vec<&Leased>) =
            of_address.partition(|(_, mac, _)| *mac == answer.mac);
        // A question may be on its way for some time, so its answer may be of a later holder.
        let is_holder = own.iter().any(|(.., since)| {
            let mut later = others.iter().filter(|(.., at)| at > since);
            later.all(|(.., at)| *at > answer.asked)
        });
        ensure!(
            is_holder,
            "{:x?} still answers for {}, which the server has leased to another: {others:?}",
            answer.mac,
            answer.address
        );
    }
    Ok(())
}
