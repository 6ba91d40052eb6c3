//! The guard: what it lets out, and whose tables are changed and removed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attachment::guard::{self, Guard, Guarded, SOCKET_MARK};
use cni::Attachment;
use lab::anyhow::{Context, ensure};
use lab::frames::{FrameSocket, Macs, arp, ipv4, ipv6, udp};
use lab::{Lan, Node, Result, Test, World, test};
use linknet::Link;
use linknet::nft::{Family, Nft, Table};

use crate::container;

pub(crate) const TESTS: &[Test] = &[
    test!(a_guarded_container_speaks_only_as_itself),
    test!(before_it_has_an_address_it_speaks_as_nobody),
    test!(a_guard_is_created_in_the_place_of_an_earlier_one),
    test!(a_guard_that_the_daemon_replaced_meanwhile_is_replaced_again),
    test!(a_guard_that_differs_is_restored),
    test!(an_interface_without_a_guard_has_no_tables),
    test!(only_the_attachments_own_tables_are_removed),
    test!(only_a_networks_stale_tables_are_removed),
];

const OWN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 50);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x50);
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(OWN), IpAddr::V6(OWN6)];
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 60);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x60);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NOBODY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A container, its attachment and its interface.
struct Subject {
    _lan: Lan,
    container: Node,
    attachment: Attachment,
    link: Link,
}

impl Subject {
    fn new() -> Result<Subject> {
        let lan = Lan::new()?;
        let (container, link) = container(&lan, "c1")?;
        Ok(Subject {
            _lan: lan,
            container,
            attachment: Attachment::new("c1", "lan", "eth0")?,
            link,
        })
    }

    fn nft(&self) -> Result<Nft> {
        Ok(Nft::open_in(self.container.netns())?)
    }

    fn guarded<'a>(&'a self, addresses: &'a [IpAddr]) -> Guarded<'a> {
        Guarded {
            attachment: &self.attachment,
            link: &self.link,
            addresses,
        }
    }

    fn create(&self, guard: &Guard) -> Result<guard::NewGuard> {
        let new = guard.create(self.container.netns(), &self.attachment, &self.link)?;
        new.context("it is on")
    }

    /// The names of the tables of each family.
    fn tables(&self) -> Result<[Vec<String>; 2]> {
        let nft = self.nft()?;
        let names = |family| -> Result<Vec<String>> {
            let tables = nft.tables(family)?;
            Ok(tables.into_iter().map(|(name, _)| name).collect())
        };
        Ok([names(Family::Netdev)?, names(Family::Inet)?])
    }
}

/// A guard with a list of what may come in, so that there are two tables.
fn with_list() -> Result<Guard> {
    Ok(Guard::Allow(vec![
        "tcp/443".parse().ok().context("a port")?,
    ]))
}

/// An ICMPv6 message with a target, as neighbour discovery has it.
fn icmpv6(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

/// UDP's header, and something behind it.
fn datagram(from: u16, to: u16) -> Vec<u8> {
    let [from, to] = [from, to].map(u16::to_be_bytes);
    [&from[..], &to, &[0, 16, 0, 0], &[0; 8]].concat()
}

/// A DHCP client's message, without an address.
fn discover(macs: Macs) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 0, 0, 0, 1];
    message.resize(28, 0);
    message.extend(macs.from);
    message.resize(300, 0);
    udp(macs, [NOBODY, Ipv4Addr::BROADCAST], [68, 67], &message)
}

/// The link-local address that follows from a MAC (RFC 4291 appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let prefix = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let octets: Vec<u8> = [prefix, id].concat();
    Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("sixteen octets"))
}

fn a_guarded_container_speaks_only_as_itself(_: &World) -> Result {
    let subject = Subject::new()?;
    let new = subject.create(&Guard::On)?;
    Guard::On.admit(&new, subject.guarded(&ADDRESSES))?;
    let socket = FrameSocket::open(&subject.container, "eth0")?;
    let macs = Macs {
        from: socket.mac,
        to: [0xff; 6],
    };
    let thief = Macs {
        from: [2, 0, 0, 0, 0, 0x66],
        ..macs
    };
    let derived = link_local(macs.from);
    let udp6 = |from, ports: [u16; 2]| {
        let [source, destination] = ports;
        ipv6(macs, [from, ALL_NODES], 17, &datagram(source, destination))
    };
    let icmp6 = |from, kind, target| ipv6(macs, [from, ALL_NODES], 58, &icmpv6(kind, target));
    let report = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &icmpv6(143, NOBODY6)].concat();
    let fragment = [&[17, 0, 0, 1, 0, 0, 0, 1][..], &datagram(1, 2)].concat();
    for (what, frame, is_own) in [
        ("ARP", arp(macs, 1, OWN, OTHER), true),
        ("another's ARP", arp(macs, 1, OTHER, OWN), false),
        ("UDP", udp(macs, [OWN, OTHER], [1, 2], b"x"), true),
        (
            "another's UDP",
            udp(macs, [OTHER, OWN], [1, 2], b"x"),
            false,
        ),
        ("another MAC", udp(thief, [OWN, OTHER], [1, 2], b"x"), false),
        ("TCP", ipv4(macs, [OWN, OTHER], 6, &[0; 20]), true),
        ("OSPF", ipv4(macs, [OWN, OTHER], 89, &[0; 20]), false),
        ("UDP over IPv6", udp6(OWN6, [1, 2]), true),
        ("another's UDP over IPv6", udp6(OTHER6, [1, 2]), false),
        ("from the derived address", udp6(derived, [1, 2]), true),
        ("from a DHCPv6 server's port", udp6(OWN6, [547, 2]), false),
        ("to a DHCPv6 client's port", udp6(OWN6, [1, 546]), false),
        ("RIPng", udp6(OWN6, [1, 521]), false),
        ("advertisement", icmp6(OWN6, 136, OWN6), true),
        ("that of the derived one", icmp6(OWN6, 136, derived), true),
        ("another's advertisement", icmp6(OWN6, 136, OTHER6), false),
        ("router advertisement", icmp6(OWN6, 134, NOBODY6), false),
        ("address detection", icmp6(NOBODY6, 135, OWN6), true),
        ("another's detection", icmp6(NOBODY6, 135, OTHER6), false),
        ("router solicitation", icmp6(NOBODY6, 133, NOBODY6), true),
        ("report", ipv6(macs, [OWN6, ALL_NODES], 0, &report), true),
        (
            "fragment",
            ipv6(macs, [OWN6, ALL_NODES], 44, &fragment),
            true,
        ),
        ("DISCOVER of a program", discover(macs), false),
    ] {
        ensure!(socket.send(&frame, 0)? == is_own, "{what}");
    }
    socket.mark(SOCKET_MARK)?;
    ensure!(socket.send(&discover(macs), 0)?, "leasehold's DISCOVER");
    ensure!(!socket.send(&discover(thief), 0)?, "for another MAC");
    Ok(())
}

fn before_it_has_an_address_it_speaks_as_nobody(_: &World) -> Result {
    let subject = Subject::new()?;
    subject.create(&Guard::On)?;
    let socket = FrameSocket::open(&subject.container, "eth0")?;
    let macs = Macs {
        from: socket.mac,
        to: [0xff; 6],
    };
    ensure!(!socket.send(&arp(macs, 1, OWN, OTHER), 0)?);
    ensure!(!socket.send(&udp(macs, [OWN, OTHER], [1, 2], b"x"), 0)?);
    socket.mark(SOCKET_MARK)?;
    ensure!(socket.send(&discover(macs), 0)?);
    Ok(())
}

fn a_guard_is_created_in_the_place_of_an_earlier_one(_: &World) -> Result {
    let subject = Subject::new()?;
    let guard = with_list()?;
    let earlier = subject.create(&guard)?;
    guard.admit(&earlier, subject.guarded(&ADDRESSES))?;
    subject.create(&guard)?;
    let difference = guard.difference(&subject.nft()?, subject.guarded(&[]))?;
    ensure!(difference.is_none(), "{difference:?}");
    Ok(())
}

fn a_guard_that_the_daemon_replaced_meanwhile_is_replaced_again(_: &World) -> Result {
    let subject = Subject::new()?;
    let nft = subject.nft()?;
    let guard = with_list()?;
    let new = subject.create(&guard)?;
    ensure!(guard.restore(&nft, subject.guarded(&ADDRESSES[..1]))?);
    guard.admit(&new, subject.guarded(&ADDRESSES))?;
    let difference = guard.difference(&nft, subject.guarded(&ADDRESSES))?;
    ensure!(difference.is_none(), "{difference:?}");
    Ok(())
}

fn a_guard_that_differs_is_restored(_: &World) -> Result {
    let subject = Subject::new()?;
    let nft = subject.nft()?;
    let guarded = subject.guarded(&ADDRESSES);
    for guard in [Guard::On, with_list()?] {
        let missing = guard.difference(&nft, guarded)?.unwrap_or_default();
        ensure!(missing.ends_with("is missing"), "{missing:?}");
        ensure!(guard.restore(&nft, guarded)?);
        ensure!(!guard.restore(&nft, guarded)?, "it is as it should be");
        ensure!(guard.difference(&nft, guarded)?.is_none());
    }
    Ok(())
}

fn an_interface_without_a_guard_has_no_tables(_: &World) -> Result {
    let subject = Subject::new()?;
    let netns = subject.container.netns();
    let new = Guard::Off.create(netns, &subject.attachment, &subject.link)?;
    ensure!(new.is_none() && subject.tables()? == [[""; 0]; 2]);
    subject.create(&Guard::On)?;
    ensure!(subject.tables()? == [vec!["leasehold-eth0".to_owned()], vec![]]);
    Ok(())
}

fn only_the_attachments_own_tables_are_removed(_: &World) -> Result {
    let subject = Subject::new()?;
    let nft = subject.nft()?;
    subject.create(&with_list()?)?;
    let table = |name: &str, comment: &str| Table {
        family: Family::Inet,
        name: name.to_owned(),
        comment: comment.to_owned(),
        chains: Vec::new(),
    };
    let own = "leasehold:eth0/c1/lan";
    nft.replace(&[table("a-copy", own)])?;
    guard::remove(&nft, &subject.attachment)?;
    ensure!(subject.tables()? == [vec![], vec!["a-copy".to_owned()]]);
    for others in ["", "leasehold:eth0/c2/lan"] {
        nft.replace(&[table("leasehold-eth0", others)])?;
        guard::remove(&nft, &subject.attachment)?;
        let [_, names] = subject.tables()?;
        ensure!(names.len() == 2, "with the comment {others:?}: {names:?}");
    }
    Ok(())
}

fn only_a_networks_stale_tables_are_removed(_: &World) -> Result {
    let subject = Subject::new()?;
    let nft = subject.nft()?;
    for (name, comment) in [
        ("leasehold-eth0", "leasehold:eth0/c1/lan"),
        ("leasehold-eth1", "leasehold:eth1/c2/lan"),
        ("leasehold-eth2", "leasehold:eth2/c1/wan"),
        ("leasehold-eth3", "another program's"),
        ("another", "leasehold:eth0/c1/lan"),
    ] {
        nft.replace(&[Table {
            family: Family::Inet,
            name: name.to_owned(),
            comment: comment.to_owned(),
            chains: Vec::new(),
        }])?;
    }
    let netns = subject.container.netns();
    guard::remove_stale(netns, "lan", |mark| mark.container() == "c1")?;
    let [_, mut names] = subject.tables()?;
    names.sort();
    let expected = [
        "another",
        "leasehold-eth1",
        "leasehold-eth2",
        "leasehold-eth3",
    ];
    ensure!(names == expected, "{names:?}");
    Ok(())
}
