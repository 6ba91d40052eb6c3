//! Packet sockets, and announcements.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;

use libtest_mimic::Failed;
use linknet::frame::{self, Rejected};
use linknet::{
    ArpSocket, LinkWatch, Mac, Netlink, Netns, NewAddress, NewMacvlan, PacketSocket, Pattern,
    Received, Sighting, announce, sysctl,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socket,
    sockopt,
};

use crate::{Space, Test, cable, until};

crate::tests![
    a_broadcast_reaches_the_server_from_a_link_without_an_address,
    an_answer_whose_checksum_is_not_filled_in_is_accepted,
    two_packet_sockets_exchange_unicast_datagrams,
    the_filter_accepts_its_port_only,
    the_filter_accepts_only_payloads_with_one_of_the_patterns,
    frames_for_other_stations_are_not_received_in_promiscuous_mode,
    frames_of_a_vlan_are_not_received_by_the_link_below,
    a_bridge_does_not_keep_frames_from_a_socket,
    a_socket_does_not_receive_what_its_own_station_sends,
    routes_neighbours_and_a_program_on_the_port_make_no_difference,
    the_first_fragment_of_a_datagram_is_rejected_and_the_others_are_dropped,
    a_frame_longer_than_the_buffer_is_rejected,
    a_packet_socket_on_a_missing_link_is_refused,
    a_packet_socket_reports_that_its_link_went_down_and_works_when_it_is_up_again,
    a_host_that_has_an_address_contests_it,
    a_host_that_probes_for_an_address_contests_it,
    the_owner_of_an_address_is_found_without_a_neighbour_entry,
    an_announcement_sends_a_gratuitous_arp_request,
    an_announcement_of_an_ipv6_address_is_a_neighbour_advertisement,
    a_link_without_ipv6_can_be_announced,
    a_setting_is_read_back_and_an_unknown_one_is_absent,
    settings_that_are_as_wanted_are_not_written,
    every_socket_gives_event_loops_its_descriptor,
    an_inquiry_is_answered_and_contests_nothing,
    an_announced_address_has_an_owner,
    a_damaged_datagram_is_rejected,
    a_tagged_frame_is_received_if_its_tag_is_only_a_priority,
];

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 50), 68);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 67);
const EVERYBODY: Ipv4Addr = Ipv4Addr::BROADCAST;

/// Calls `open` in a space.
fn inside<T: Send, E: Into<Failed> + Send>(
    space: &Space,
    open: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, Failed> {
    space.netns.run(open)?.map_err(Into::into)
}

fn packet_socket(space: &Space, link: &str, port: u16) -> Result<PacketSocket, Failed> {
    let index = space.link(link)?.index;
    inside(space, || PacketSocket::open(index, port))
}

fn give(space: &Space, link: &str, address: SocketAddrV4) -> Test {
    let net = ipnet::Ipv4Net::new(*address.ip(), 24)?;
    Ok(space
        .netlink
        .add_address(space.link(link)?.index, &NewAddress::new(net))?)
}

/// An ordinary UDP socket of a server, on a link that is given the server's address.
fn server(space: &Space, link: &str) -> Result<UdpSocket, Failed> {
    give(space, link, SERVER)?;
    let server = inside(space, || UdpSocket::bind((ANY, 67)))?;
    server.set_broadcast(true)?;
    server.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    Ok(server)
}

/// Receives one frame, and hands it to `check`.
fn next(socket: &PacketSocket, buffer_len: usize, check: impl Fn(Received<'_>)) -> Test {
    let mut buffer = vec![0; buffer_len];
    until("a frame", || match socket.recv(&mut buffer)? {
        Received::Nothing => Ok(None),
        received => {
            check(received);
            Ok(Some(()))
        }
    })
}

fn a_broadcast_reaches_the_server_from_a_link_without_an_address() -> Test {
    let (left, right) = cable()?;
    let server = server(&right, "right")?;
    let client = packet_socket(&left, "left", 68)?;
    let everybody = SocketAddrV4::new(EVERYBODY, 67);
    client.send(
        Mac::BROADCAST,
        SocketAddrV4::new(ANY, 68),
        everybody,
        b"discover",
    )?;
    let mut buffer = [0; 100];
    let (length, from) = server.recv_from(&mut buffer)?;
    assert_eq!(
        (&buffer[..length], from.to_string().as_str()),
        (&b"discover"[..], "0.0.0.0:68")
    );
    Ok(())
}

fn an_answer_whose_checksum_is_not_filled_in_is_accepted() -> Test {
    let (left, right) = cable()?;
    let server = server(&right, "right")?;
    let client = packet_socket(&left, "left", 68)?;
    right.ip("route add 255.255.255.255 dev right")?;
    server.send_to(b"offer", (EVERYBODY, 68))?;
    let server_mac = right.link("right")?.mac;
    next(&client, 2048, |received| {
        let Received::Datagram(datagram) = received else {
            panic!("{received:?}")
        };
        assert_eq!(datagram.payload, b"offer");
        assert_eq!(
            (datagram.source, datagram.destination),
            (SERVER, SocketAddrV4::new(EVERYBODY, 68))
        );
        assert_eq!(
            (Some(datagram.source_mac), datagram.destination_mac),
            (server_mac, Mac::BROADCAST)
        );
    })
}

fn two_packet_sockets_exchange_unicast_datagrams() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    assert_eq!(Some(client.mac()), left.link("left")?.mac);
    assert_eq!(client.recv(&mut [0; 100])?, Received::Nothing);
    server.send(client.mac(), SERVER, CLIENT, b"offer")?;
    next(&client, 2048, |received| {
        let Received::Datagram(datagram) = received else {
            panic!("{received:?}")
        };
        assert_eq!(
            (datagram.source, datagram.destination, datagram.payload),
            (SERVER, CLIENT, &b"offer"[..])
        );
        assert_eq!(
            (datagram.source_mac, datagram.destination_mac),
            (server.mac(), client.mac())
        );
    })
}

fn the_filter_accepts_its_port_only() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    let to = |port| SocketAddrV4::new(*CLIENT.ip(), port);
    for port in [67, 69, 68 << 8, 0] {
        server.send(client.mac(), SERVER, to(port), b"not for us")?;
    }
    server.send(client.mac(), SERVER, to(68), b"for us")?;
    next(&client, 2048, |received| {
        assert!(
            matches!(received, Received::Datagram(datagram) if datagram.payload == b"for us"),
            "{received:?}"
        );
    })
}

/// Asserts that the next frame that `client` receives is this datagram.
fn next_is(client: &PacketSocket, payload: &[u8]) -> Test {
    next(client, 2048, |received| {
        assert!(
            matches!(received, Received::Datagram(datagram) if datagram.payload == payload),
            "{received:?}"
        );
    })
}

fn the_filter_accepts_only_payloads_with_one_of_the_patterns() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    let pattern = |offset, octets| Pattern { offset, octets };
    client.accept_only(&[pattern(1, b"wxyz"), pattern(3, b"abcdef")])?;
    for foreign in ["", "..", "..abcdef.", ".wxya....", "...abcde.", "wxyz....."] {
        server.send(client.mac(), SERVER, CLIENT, foreign.as_bytes())?;
    }
    for ours in ["...abcdef", ".wxyz", ".wxyzcdef"] {
        server.send(client.mac(), SERVER, CLIENT, ours.as_bytes())?;
        next_is(&client, ours.as_bytes())?;
    }
    client.accept_only(&[])?;
    server.send(client.mac(), SERVER, CLIENT, b"anything")?;
    next_is(&client, b"anything")
}

fn frames_for_other_stations_are_not_received_in_promiscuous_mode() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    left.ip("link set left promisc on")?;
    let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    for other in [Mac([2, 0, 0, 0, 0, 0x99]), multicast] {
        server.send(other, SERVER, CLIENT, b"not for us")?;
    }
    server.send(Mac::BROADCAST, SERVER, CLIENT, b"for all")?;
    next_is(&client, b"for all")
}

fn frames_of_a_vlan_are_not_received_by_the_link_below() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    if let Err(unsupported) = right.ip("link add vlan5 link right type vlan id 5") {
        eprintln!("a kernel without VLANs: {unsupported:?}");
        return Ok(());
    }
    right.ip("link set vlan5 up")?;
    let tagged = packet_socket(&right, "vlan5", 67)?;
    tagged.send(Mac::BROADCAST, SERVER, CLIENT, b"of the VLAN")?;
    server.send(Mac::BROADCAST, SERVER, CLIENT, b"of the link")?;
    next_is(&client, b"of the link")
}

fn a_bridge_does_not_keep_frames_from_a_socket() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    give(&right, "right", SERVER)?;
    let arp = arp_socket(&left, "left")?;
    left.ip("link add br0 type bridge")?;
    left.ip("link set left master br0")?;
    left.ip("link set br0 up")?;
    server.send(client.mac(), SERVER, CLIENT, b"to a port")?;
    next_is(&client, b"to a port")?;
    arp.probe(*SERVER.ip())?;
    until("an answer", || Ok(arp.contender(*SERVER.ip())?))?;
    Ok(())
}

fn a_socket_does_not_receive_what_its_own_station_sends() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 68)?,
    );
    let own = packet_socket(&left, "left", 67)?;
    own.send(Mac::BROADCAST, SERVER, CLIENT, b"own")?;
    next_is(&server, b"own")?;
    server.send(Mac::BROADCAST, SERVER, CLIENT, b"another's")?;
    next_is(&client, b"another's")
}

fn routes_neighbours_and_a_program_on_the_port_make_no_difference() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    give(&left, "left", CLIENT)?;
    left.ip("route add blackhole 10.99.0.1")?;
    left.ip("neighbour add 10.99.0.1 lladdr 02:00:00:00:00:99 dev left nud permanent")?;
    let other = inside(&left, || UdpSocket::bind((ANY, 68)))?;
    client.send(server.mac(), CLIENT, SERVER, b"request")?;
    next_is(&server, b"request")?;
    server.send(client.mac(), SERVER, CLIENT, b"ack")?;
    next_is(&client, b"ack")?;
    drop(other);
    Ok(())
}

fn the_first_fragment_of_a_datagram_is_rejected_and_the_others_are_dropped() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    give(&right, "right", SERVER)?;
    give(&left, "left", CLIENT)?;
    let sender = inside(&right, || UdpSocket::bind((*SERVER.ip(), 1067)))?;
    sender.send_to(&[0; 4000], CLIENT)?;
    next(&client, 2048, |received| {
        assert_eq!(received, Received::Rejected(Rejected::Fragment));
    })?;
    server.send(client.mac(), SERVER, CLIENT, b"whole")?;
    next_is(&client, b"whole")
}

fn a_frame_longer_than_the_buffer_is_rejected() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    server.send(client.mac(), SERVER, CLIENT, &[0; 300])?;
    next(&client, 200, |received| {
        assert_eq!(received, Received::Rejected(Rejected::TooLong));
    })?;
    server.send(client.mac(), SERVER, CLIENT, &[0; 300])?;
    next(&client, 342, |received| {
        assert!(matches!(received, Received::Datagram(_)), "{received:?}");
    })
}

fn a_packet_socket_on_a_missing_link_is_refused() -> Test {
    let space = Space::new()?;
    let error = space
        .netns
        .run(|| PacketSocket::open(4711, 68))?
        .expect_err("no such link");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn a_packet_socket_reports_that_its_link_went_down_and_works_when_it_is_up_again() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    let index = left.link("left")?.index;
    left.ip("link set left down")?;
    let error = until("an error", || Ok(client.recv(&mut [0; 100]).err()))?;
    assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
    left.netlink.set_up(index)?;
    until("the cable's carrier", || {
        Ok(right.link("right")?.carrier.then_some(()))
    })?;
    server.send(client.mac(), SERVER, CLIENT, b"again")?;
    next(&client, 2048, |received| {
        assert!(matches!(received, Received::Datagram(_)), "{received:?}");
    })
}

fn arp_socket(space: &Space, link: &str) -> Result<ArpSocket, Failed> {
    let index = space.link(link)?.index;
    inside(space, || ArpSocket::open(index))
}

fn a_host_that_has_an_address_contests_it() -> Test {
    let (left, right) = cable()?;
    give(&right, "right", SERVER)?;
    let socket = arp_socket(&left, "left")?;
    socket.probe(*CLIENT.ip())?;
    socket.probe(*SERVER.ip())?;
    let contender = until("an answer", || Ok(socket.contender(*SERVER.ip())?))?;
    assert_eq!(Some(contender), right.link("right")?.mac);
    assert_eq!(socket.contender(*CLIENT.ip())?, None);
    assert!(
        inside(&left, || ArpSocket::open(4711)).is_err(),
        "no such link"
    );
    Ok(())
}

fn a_host_that_probes_for_an_address_contests_it() -> Test {
    let (left, right) = cable()?;
    let (one, other) = (arp_socket(&left, "left")?, arp_socket(&right, "right")?);
    one.probe(*CLIENT.ip())?;
    let contender = until("a probe", || Ok(other.contender(*CLIENT.ip())?))?;
    assert_eq!(Some(contender), left.link("left")?.mac);
    assert_eq!(
        one.contender(*CLIENT.ip())?,
        None,
        "a socket's own probe does not contest the address"
    );
    Ok(())
}

fn the_owner_of_an_address_is_found_without_a_neighbour_entry() -> Test {
    let (left, right) = cable()?;
    give(&right, "right", SERVER)?;
    let socket = arp_socket(&left, "left")?;
    socket.request(*CLIENT.ip(), *SERVER.ip())?;
    let owner = until("an answer", || Ok(socket.owner(*SERVER.ip())?))?;
    assert_eq!(Some(owner), right.link("right")?.mac);
    assert_eq!(socket.owner(*SERVER.ip())?, None, "there was one answer");
    Ok(())
}

/// A socket that receives every frame in a namespace.
fn tap(netns: &Netns) -> Result<OwnedFd, Failed> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(netns.run(|| {
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )
    })??)
}

fn an_announcement_sends_a_gratuitous_arp_request() -> Test {
    let (host, lan) = cable()?;
    let container = Space::new()?;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new("eth0", host.link("left")?.index)
    };
    let link = host
        .netlink
        .add_macvlan(&new, &container.netns, &container.netlink)?;
    give(&container, "eth0", CLIENT)?;

    let tap = tap(&lan.netns)?;
    announce(&container.netns, &container.netlink, link.index)?;
    let mac = link.mac.expect("an Ethernet link").octets();
    let address = CLIENT.ip().octets();
    // A broadcast ARP request with the address as both sender and target (RFC 5227 §1.1).
    let expected = [
        &[0xff; 6],
        &mac[..],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &address,
    ]
    .concat();
    let mut buffer = [0; 2048];
    until("a gratuitous ARP", || {
        let length = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
        let frame = &buffer[..length];
        Ok((frame.starts_with(&expected) && frame.get(38..42) == Some(&address)).then_some(()))
    })?;
    assert_eq!(container.link("eth0")?.mac, link.mac);
    let notify = container
        .netns
        .run(|| sysctl::get(&["ipv4", "conf", "eth0", "arp_notify"]))??;
    assert_eq!(notify, "1");

    container.netlink.delete_link(link.index)?;
    let error = announce(&container.netns, &container.netlink, link.index).expect_err("gone");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn an_announcement_of_an_ipv6_address_is_a_neighbour_advertisement() -> Test {
    let (left, right) = cable()?;
    let link = left.link("left")?;
    let address: ipnet::IpNet = "fd99::50/64".parse()?;
    let new = NewAddress {
        nodad: true,
        ..NewAddress::new(address)
    };
    left.netlink.add_address(link.index, &new)?;
    let tap = tap(&right.netns)?;
    announce(&left.netns, &left.netlink, link.index)?;
    // ICMPv6 of type 136 for the address, to all nodes (RFC 4861 §7.2.6).
    let IpAddr::V6(target) = address.addr() else {
        return Err("an IPv6 address".into());
    };
    let mut buffer = [0; 2048];
    until("a neighbour advertisement", || {
        let length = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
        let frame = &buffer[..length];
        let is_advertisement =
            frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&136);
        let is_for_it = frame.get(62..78) == Some(&target.octets());
        Ok((is_advertisement && is_for_it).then_some(()))
    })
}

fn a_link_without_ipv6_can_be_announced() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    space.netlink.set_mtu(link.index, 1000)?; // too little for IPv6
    announce(&space.netns, &space.netlink, link.index)?;
    let notify = space
        .netns
        .run(|| sysctl::get(&["ipv4", "conf", "eth0", "arp_notify"]))??;
    assert_eq!(notify, "1");
    Ok(())
}

fn a_setting_is_read_back_and_an_unknown_one_is_absent() -> Test {
    let space = Space::new()?;
    space.plug("eth0.5")?;
    let setting = ["ipv4", "conf", "eth0.5", "arp_notify"];
    inside(&space, || sysctl::set(&setting, "1"))?;
    assert_eq!(inside(&space, || sysctl::get(&setting))?, "1");
    let missing = ["ipv4", "conf", "eth9", "arp_notify"];
    let error = space
        .netns
        .run(|| sysctl::set(&missing, "1"))?
        .expect_err("no such link");
    assert!(error.is_absent(), "{error}");
    assert!(error.to_string().contains("eth9"), "{error}");
    Ok(())
}

fn settings_that_are_as_wanted_are_not_written() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    let arp = ["ipv4", "conf", "eth0", "arp_notify"];
    let ndisc = ["ipv6", "conf", "eth0", "ndisc_notify"];
    inside(&space, || sysctl::set(&arp, "1"))?;
    let announce = || announce(&space.netns, &Netlink::open_in(&space.netns)?, link.index);
    let error = with_read_only_settings(announce)?;
    let error = error
        .expect_err("IPv6's setting is to be changed")
        .to_string();
    assert!(error.contains("write 1 to /proc/sys/net/ipv6"), "{error}");
    inside(&space, || sysctl::set(&ndisc, "1"))?;
    with_read_only_settings(announce)??;
    Ok(())
}

/// Calls `f` where `/proc/sys` is read-only, as in most containers.
fn with_read_only_settings<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, Failed> {
    let (none, settings) = (None::<&str>, "/proc/sys");
    let in_a_world_of_its_own = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(Some(settings), settings, none, MsFlags::MS_BIND, none)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, settings, none, read_only, none)?;
        Ok(f())
    };
    thread::scope(|scope| scope.spawn(in_a_world_of_its_own).join().expect("no panic"))
}

fn every_socket_gives_event_loops_its_descriptor() -> Test {
    /// Both traits give the same descriptor, which is that of an open socket.
    fn is_given<S: AsFd + AsRawFd>(socket: &S) {
        assert_eq!(socket.as_fd().as_raw_fd(), socket.as_raw_fd());
        let is_socket = getsockopt(&socket.as_fd(), sockopt::SockType);
        assert!(is_socket.is_ok(), "{is_socket:?}");
    }
    let space = Space::new()?;
    space.plug("eth0")?;
    is_given(&space.netlink);
    is_given(&inside(&space, LinkWatch::open)?);
    is_given(&packet_socket(&space, "eth0", 68)?);
    is_given(&arp_socket(&space, "eth0")?);
    Ok(())
}

fn an_inquiry_is_answered_and_contests_nothing() -> Test {
    let (left, right) = cable()?;
    give(&right, "right", SERVER)?;
    let witness = Ipv4Addr::new(10, 99, 0, 2);
    give(&right, "right", SocketAddrV4::new(witness, 0))?;
    let (one, other) = (arp_socket(&left, "left")?, arp_socket(&right, "right")?);
    let probes = arp_socket(&right, "right")?;
    let theirs = right.link("right")?.mac.expect("an Ethernet link");
    one.inquire(*SERVER.ip())?;
    let seen = until("the owner", || Ok(one.sighting(*SERVER.ip(), &[])?))?;
    assert_eq!(seen, Sighting::User(theirs));
    one.inquire(witness)?;
    let seen = until(
        "the witness",
        || Ok(one.sighting(*CLIENT.ip(), &[witness])?),
    )?;
    assert_eq!(seen, Sighting::Witness);

    one.inquire(*CLIENT.ip())?;
    let later = Ipv4Addr::new(10, 99, 0, 51);
    one.probe(later)?;
    until("the probe behind it", || Ok(probes.contender(later)?))?;
    assert_eq!(other.contender(*CLIENT.ip())?, None);
    Ok(())
}

fn an_announced_address_has_an_owner() -> Test {
    let (left, right) = cable()?;
    let (one, other) = (arp_socket(&left, "left")?, arp_socket(&right, "right")?);
    one.announce(*CLIENT.ip())?;
    let owner = until("an announcement", || Ok(other.owner(*CLIENT.ip())?))?;
    assert_eq!(Some(owner), left.link("left")?.mac);
    Ok(())
}

/// The frame that carries a datagram from the server to all.
fn to_all(server: &PacketSocket, payload: &[u8]) -> Result<Vec<u8>, Failed> {
    Ok(frame::build(&frame::Datagram {
        source_mac: server.mac(),
        destination_mac: Mac::BROADCAST,
        source: SERVER,
        destination: CLIENT,
        payload,
    })?)
}

fn a_damaged_datagram_is_rejected() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    let mut damaged = to_all(&server, b"damaged")?;
    *damaged.last_mut().expect("octets") ^= 1;
    send(server.as_raw_fd(), &damaged, MsgFlags::empty())?;
    next(&client, 2048, |received| {
        assert_eq!(received, Received::Rejected(Rejected::BadUdpChecksum));
    })
}

fn a_tagged_frame_is_received_if_its_tag_is_only_a_priority() -> Test {
    let (left, right) = cable()?;
    let (client, server) = (
        packet_socket(&left, "left", 68)?,
        packet_socket(&right, "right", 67)?,
    );
    let tagged = |tag: [u8; 2], payload| -> Test {
        let mut frame = to_all(&server, payload)?;
        frame.splice(12..12, [0x81, 0, tag[0], tag[1]]);
        send(server.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    };
    for of_a_vlan in [[0, 1], [0x0f, 0xfe], [0x60, 5]] {
        tagged(of_a_vlan, b"of a VLAN")?;
    }
    tagged([0x60, 0], b"urgent")?;
    next_is(&client, b"urgent")
}
