//! What the scriptable [`DhcpServer`] promises.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use lab::{
    DhcpServer, Lan, Result, Test, World,
    anyhow::Context,
    deadline,
    dhcp_server::{Reaction, Settings, Strangers},
    dhcproto::v4::{DhcpOption, MessageType, OptionCode},
    test,
};

use crate::client::Client;

pub(crate) const TESTS: &[Test] = &[
    test!(a_lease_is_given_and_taken_back),
    test!(everything_received_and_sent_is_recorded),
    test!(only_what_was_asked_for_is_answered),
    test!(a_rule_applies_as_often_as_it_was_made_for),
    test!(answers_are_altered_as_told),
    test!(an_answer_is_late_and_doubled),
    test!(unknown_clients_are_treated_as_configured),
    test!(an_exhausted_pool_is_silent),
    test!(two_servers_share_the_lan),
];

const SOON: Duration = Duration::from_secs(2);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);

fn start(settings: Settings) -> Result<(Lan, DhcpServer, Client)> {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, settings)?;
    let client = Client::new(&lan.host)?;
    Ok((lan, server, client))
}

fn a_lease_is_given_and_taken_back(_: &World) -> Result {
    let (lan, server, mut client) = start(Settings {
        lease_time: Some(Duration::from_secs(7)),
        ..Settings::default()
    })?;
    let started = Instant::now();
    let ack = client.acquire()?;
    assert!(
        started.elapsed() < deadline(Duration::from_millis(500)),
        "it answers at once"
    );
    assert_eq!(ack.yiaddr(), FIRST);
    assert_eq!(
        ack.opts().get(OptionCode::AddressLeaseTime),
        Some(&DhcpOption::AddressLeaseTime(7))
    );
    assert_eq!(
        ack.opts().get(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask([255, 255, 255, 0].into()))
    );
    assert_eq!(
        server
            .leases()
            .iter()
            .map(|lease| lease.address)
            .collect::<Vec<_>>(),
        [FIRST]
    );

    client.release(&ack, &lan.host)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    assert!(*release.source.ip() == FIRST && *release.destination.ip() == Lan::ADDRESS);
    assert!(server.leases().is_empty());
    Ok(())
}

fn everything_received_and_sent_is_recorded(_: &World) -> Result {
    let (lan, server, mut client) = start(Settings::default())?;
    client.acquire()?;
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    assert!(
        discover.source.to_string() == "0.0.0.0:68"
            && discover.destination.to_string() == "255.255.255.255:67"
    );
    assert_eq!(discover.ethernet_destination, [0xff; 6]);
    assert_eq!(
        Some(linknet::Mac(discover.ethernet_source)),
        lan.host.link(Lan::MASTER)?.mac
    );
    assert_eq!(discover.payload()[4..8], client.xid().to_be_bytes());
    let sent: Vec<_> = server
        .sent()
        .iter()
        .filter_map(lab::dhcp_server::Packet::kind)
        .collect();
    assert_eq!(sent, [MessageType::Offer, MessageType::Ack]);
    let transcript = server.transcript();
    assert_eq!(transcript.lines().count(), 4, "{transcript}");
    let moment = Duration::from_millis(10);
    let error = server
        .wait_for(MessageType::Decline, 1, moment)
        .err()
        .context("a DECLINE?")?;
    let expected = format!("no Decline number 1 within {:?}\n", deadline(moment));
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(server.take_received().len(), 2);
    assert!(server.received().is_empty() && server.sent().is_empty());
    Ok(())
}

fn only_what_was_asked_for_is_answered(_: &World) -> Result {
    let (_lan, _server, mut client) = start(Settings::default())?;
    let offer = client.discover()?.context("no offer")?;
    assert!(
        offer.opts().contains(OptionCode::Router),
        "it is in the client's parameter request list"
    );
    assert!(
        !offer.opts().contains(OptionCode::DomainNameServer),
        "it is not"
    );
    Ok(())
}

fn a_rule_applies_as_often_as_it_was_made_for(_: &World) -> Result {
    let (_lan, server, mut client) = start(Settings::default())?;
    server
        .when(MessageType::Discover)
        .once()
        .then(Reaction::silence());
    server
        .when(MessageType::Discover)
        .once()
        .then(Reaction::nak());
    server
        .when(MessageType::Discover)
        .from([2; 6])
        .then(Reaction::silence());
    client.send(MessageType::Discover, Ipv4Addr::UNSPECIFIED, vec![])?;
    server.wait_for(MessageType::Discover, 1, SOON)?;
    let nak = client.discover()?.context("no answer")?;
    assert!(nak.opts().has_msg_type(MessageType::Nak));
    client.acquire()?;
    assert_eq!(server.received_of(MessageType::Discover).len(), 3);
    Ok(())
}

fn answers_are_altered_as_told(_: &World) -> Result {
    let (_lan, server, mut client) = start(Settings::default())?;
    let mut offer = |reaction: Reaction| {
        server.behave();
        server.when(MessageType::Discover).then(reaction);
        client
            .discover()?
            .context("no offer")
            .map(|offer| (offer, client.xid()))
    };
    let (wrong, xid) = offer(Reaction::answer().wrong_xid())?;
    assert_eq!(wrong.xid(), !xid);
    let (wrong, _) = offer(Reaction::answer().wrong_chaddr())?;
    assert_eq!(wrong.chaddr(), [0x02, 0xba, 0xdb, 0xad, 0xba, 0xd0]);
    let (wrong, _) = offer(Reaction::answer().without(OptionCode::ServerIdentifier))?;
    assert!(
        !wrong.opts().contains(OptionCode::ServerIdentifier)
            && wrong.opts().contains(OptionCode::Router)
    );
    let (wrong, _) = offer(Reaction::answer().overloaded())?;
    assert!(
        wrong.opts().contains(OptionCode::OptionOverload)
            && !wrong.opts().contains(OptionCode::Router)
    );
    let (wrong, _) = offer(Reaction::answer().edit(|offer| {
        offer.set_yiaddr([192, 0, 2, 1]);
    }))?;
    assert_eq!(wrong.yiaddr(), Ipv4Addr::new(192, 0, 2, 1));
    server.behave();
    client.acquire()?;
    Ok(())
}

fn an_answer_is_late_and_doubled(_: &World) -> Result {
    let (_lan, server, mut client) = start(Settings::default())?;
    let delay = Duration::from_millis(100);
    server
        .when(MessageType::Discover)
        .then(Reaction::answer().late(delay).copies(2));
    let asked = Instant::now();
    client.discover()?.context("no offer")?;
    assert!(asked.elapsed() >= delay, "after {:?}", asked.elapsed());
    client.receive(deadline(SOON))?.context("no second offer")?;
    assert!(client.receive(Duration::from_millis(20))?.is_none());
    Ok(())
}

fn unknown_clients_are_treated_as_configured(_: &World) -> Result {
    let (_lan, server, client) = start(Settings::default())?;
    for (nth, strangers, expected) in [
        (1, Strangers::Nak, Some(MessageType::Nak)),
        (2, Strangers::Ignore, None),
        (3, Strangers::Adopt, Some(MessageType::Ack)),
    ] {
        server.reconfigure(|settings| settings.strangers = strangers);
        let said = server.sent().len();
        // As when rebinding. The answer is read from the server's record: an ACK goes to an address
        // that is not ours.
        client.send(MessageType::Request, FIRST, vec![])?;
        server.wait_for(MessageType::Request, nth, SOON)?;
        let answer = server
            .sent()
            .get(said)
            .map(|packet| packet.kind().expect("we can read our own"));
        assert_eq!(answer, expected, "{strangers:?}");
    }
    assert_eq!(server.leases().len(), 1);
    Ok(())
}

fn an_exhausted_pool_is_silent(_: &World) -> Result {
    let (_lan, server, mut client) = start(Settings {
        pool: FIRST..=FIRST,
        ..Settings::default()
    })?;
    client.acquire()?;
    let other = DhcpOption::ClientIdentifier(b"\0another".to_vec());
    client.send(MessageType::Discover, Ipv4Addr::UNSPECIFIED, vec![other])?;
    server.wait_for(MessageType::Discover, 2, SOON)?;
    assert_eq!(server.sent().len(), 2, "{}", server.transcript());
    Ok(())
}

fn two_servers_share_the_lan(_: &World) -> Result {
    let (lan, first, mut client) = start(Settings::default())?;
    let address = Ipv4Addr::new(10, 99, 0, 2);
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    let second = DhcpServer::start(
        &lan.lan,
        Settings {
            address,
            pool,
            ..Settings::default()
        },
    )?;
    first
        .when(MessageType::Discover)
        .then(Reaction::answer().late(SOON));
    let ack = client.acquire()?;
    assert_eq!(ack.yiaddr(), Ipv4Addr::new(10, 99, 0, 200));
    assert!(second.leases().len() == 1 && first.leases().is_empty());
    Ok(())
}
