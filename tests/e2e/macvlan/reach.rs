//! Who can talk to whom, in each mode: measured, and compared with the table in the documentation.
//!
//! `LEASEHOLD_WRITE_TABLES=1` writes the table instead.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test};
use linknet::sysctl;

use super::addresses;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(the_documentation_has_the_table_that_is_measured)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(private_containers_that_know_each_other_without_asking_are_not_kept_apart)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(servers_see_the_containers_own_address).needs(&[packages::GO_PLUGINS]),
];

const DOCUMENT: &str = include_str!("../../../docs/modes.md");
const DOCUMENTS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/modes.md");
const BEGIN: &str = "<!-- measured: tests/e2e/macvlan/reach.rs -->\n";
const END: &str = "<!-- end of what is measured -->\n";

/// Long enough for ARP and an answer on this cable, many times over: for what is to stay unanswered.
const A_MOMENT: Duration = Duration::from_millis(400);

/// The host's own address, on the parent.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// A way of attaching a container.
struct Manner {
    label: &'static str,
    mode: &'static str,
    /// Mode source: whether everybody is listed, or nobody is.
    listed: bool,
}

impl Manner {
    const fn new(label: &'static str, mode: &'static str) -> Manner {
        Manner { label, mode, listed: true }
    }
}

/// The rows; each but the last has a container.
const ROWS: [Manner; 6] = [
    Manner::new("bridge", "bridge"),
    Manner::new("private", "private"),
    Manner::new("vepa", "vepa"),
    Manner::new("source, the other listed", "source"),
    Manner { listed: false, ..Manner::new("source, the other not listed", "source") },
    PASSTHRU,
];
const PASSTHRU: Manner = Manner::new("passthru", "passthru");

/// The columns: containers that are pinged, on the same parent.
const COLUMNS: [Manner; 4] = [
    Manner::new("bridge", "bridge"),
    Manner::new("private", "private"),
    Manner::new("vepa", "vepa"),
    Manner::new("source", "source"),
];

/// Who answers, by IPv4 and by IPv6.
type Answers = (bool, bool);

/// What was measured of a pair.
#[derive(Clone, Copy)]
enum Cell {
    /// The second interface is refused.
    Refused,
    /// Whether the one reaches the other behind an ordinary switch, and behind one that sends frames back.
    Reaches(Answers, Answers),
}

impl Cell {
    fn text(self) -> String {
        const NO: Answers = (false, false);
        const YES: Answers = (true, true);
        match self {
            Cell::Refused => "refused".to_owned(),
            Cell::Reaches(YES, YES) => "yes".to_owned(),
            Cell::Reaches(NO, YES) => "reflected".to_owned(),
            Cell::Reaches(NO, NO) => "no".to_owned(),
            Cell::Reaches(ordinary, reflecting) => format!("{ordinary:?}, reflected {reflecting:?}"),
        }
    }
}

fn the_documentation_has_the_table_that_is_measured(_: &World) -> Result {
    let lan = Lan::new()?;
    switch(&lan)?;
    lan.host.add_address(Lan::MASTER, IpNet::new(HOST.into(), 24)?)?;
    lan.host.add_address(Lan::MASTER, IpNet::new(address6(HOST).into(), 64)?)?;
    let (before, rest) = DOCUMENT.split_once(BEGIN).context("the page has a place for the table")?;
    let (documented, after) = rest.split_once(END).context("the table has an end")?;

    let mut measured = measure(&lan, A_MOMENT)?;
    if measured != documented {
        // On a busy machine an answer may be late: this one counts.
        measured = measure(&lan, SOON)?;
    }
    if std::env::var_os("LEASEHOLD_WRITE_TABLES").is_some_and(|value| value == "1") {
        fs::write(DOCUMENTS_PATH, [before, BEGIN, &measured, END, after].concat())?;
        return Ok(());
    }
    ensure!(
        measured == documented,
        "docs/modes.md has another table than was measured (LEASEHOLD_WRITE_TABLES=1 writes this one):\n{measured}"
    );
    Ok(())
}

fn measure(lan: &Lan, patience: Duration) -> Result<String> {
    let passthru = passthru(lan, patience)?;
    let containers = Containers::attach(lan)?;
    let rows = containers.measure(lan, patience)?;
    containers.detach()?;
    Ok(table(&rows, &passthru))
}

/// The table in Markdown.
fn table(rows: &[Vec<Cell>], passthru: &[Cell]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let titles = COLUMNS.iter().map(|manner| manner.label).chain(["the LAN", "the host"]);
    let titles: Vec<String> = ["from"].into_iter().chain(titles).map(str::to_owned).collect();
    let rows = rows.iter().map(Vec::as_slice).chain([passthru]).zip(&ROWS).map(|(row, manner)| {
        let cells = row.iter().map(|cell| cell.text());
        line(&[manner.label.to_owned()].into_iter().chain(cells).collect::<Vec<String>>())
    });
    [line(&titles), format!("|{}\n", "---|".repeat(titles.len()))].into_iter().chain(rows).collect()
}

/// A container for each row and each column but passthru's, all on one parent.
struct Containers<'a> {
    rows: Vec<Attached<'a>>,
    columns: Vec<Attached<'a>>,
}

impl<'a> Containers<'a> {
    fn attach(lan: &'a Lan) -> Result<Containers<'a>> {
        let all = |manners: &[Manner], first: u8| -> Result<Vec<_>> {
            manners.iter().zip(first..).map(|(manner, number)| Attached::new(lan, manner, number)).collect()
        };
        Ok(Containers { rows: all(&ROWS[..ROWS.len() - 1], 10)?, columns: all(&COLUMNS, 20)? })
    }

    /// A row of cells for each container that asks.
    fn measure(&self, lan: &Lan, patience: Duration) -> Result<Vec<Vec<Cell>>> {
        let columns = self.columns.iter().map(|column| address(column.number));
        let targets: Vec<Ipv4Addr> = columns.chain([Lan::ADDRESS, HOST]).collect();
        let pairs: Vec<(&Node, Ipv4Addr)> =
            self.rows.iter().flat_map(|row| targets.iter().map(|target| (&row.container, *target))).collect();
        let cells = both_switches(lan, &pairs, patience)?;
        Ok(cells.chunks(targets.len()).map(<[Cell]>::to_vec).collect())
    }

    fn detach(self) -> Result {
        self.rows.into_iter().chain(self.columns).try_for_each(Attached::detach)
    }
}

/// The row of mode passthru, whose parent must have no other; the container is gone afterwards.
fn passthru(lan: &Lan, patience: Duration) -> Result<Vec<Cell>> {
    let alone = Attached::new(lan, &PASSTHRU, 30)?;
    let mut cells = Vec::new();
    for (manner, number) in COLUMNS.iter().zip(31..) {
        ensure!(Attached::new(lan, manner, number).is_err(), "{} beside passthru", manner.label);
        cells.push(Cell::Refused);
    }
    let pairs = [(&alone.container, Lan::ADDRESS), (&alone.container, HOST)];
    cells.extend(both_switches(lan, &pairs, patience)?);
    alone.detach()?;
    Ok(cells)
}

fn both_switches(lan: &Lan, pairs: &[(&Node, Ipv4Addr)], patience: Duration) -> Result<Vec<Cell>> {
    hairpin(lan, false)?;
    let ordinary = ping_all(pairs, patience);
    hairpin(lan, true)?;
    let reflecting = ping_all(pairs, patience);
    Ok(ordinary
        .into_iter()
        .zip(reflecting)
        .map(|(ordinary, reflecting)| Cell::Reaches(ordinary, reflecting))
        .collect())
}

/// At the same time, since most of it is waiting.
fn ping_all(pairs: &[(&Node, Ipv4Addr)], patience: Duration) -> Vec<Answers> {
    thread::scope(|scope| {
        let ping = |from: &Node, to: IpAddr| from.ping(to, patience).is_ok();
        let pings: Vec<_> = pairs
            .iter()
            .map(|&(from, to)| {
                (
                    scope.spawn(move || ping(from, to.into())),
                    scope.spawn(move || ping(from, address6(to).into())),
                )
            })
            .collect();
        let answer = |ping: thread::ScopedJoinHandle<'_, bool>| ping.join().expect("a ping does not panic");
        pings.into_iter().map(|(four, six)| (answer(four), answer(six))).collect()
    })
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

/// The same host's.
fn address6(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, address.octets()[3].into())
}

fn mac(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

/// A container on the parent, with the address and MAC of its number.
struct Attached<'a> {
    network: Network<'a>,
    container: Node,
    number: u8,
}

impl<'a> Attached<'a> {
    /// What is refused leaves nothing.
    fn new(lan: &'a Lan, manner: &Manner, number: u8) -> Result<Attached<'a>> {
        let container = lan.container(&format!("c{number}"))?;
        // Duplicate addresses are another test's business, and looking for them takes a second.
        container.run(|| sysctl::set(&["ipv6", "conf", "default", "accept_dad"], "0"))??;
        let network = network(lan, manner, number);
        if let Err(refusal) = network.add(&network::Attachment::new(&container)) {
            ensure_nothing_left(&container)?;
            container.remove()?;
            return Err(refusal);
        }
        container.run(|| {
            ["ipv4", "ipv6"].iter().try_for_each(|family| {
                let set = |name, value| sysctl::set(&[family, "neigh", "eth0", name], value);
                // Who was not found behind the one switch is asked for again at once behind the other.
                set("retrans_time_ms", "50")?;
                // Nobody asks who has only answered: others would learn of them by overhearing it.
                set("delay_first_probe_time", "3600")
            })
        })??;
        Ok(Attached { network, container, number })
    }

    fn detach(self) -> Result {
        self.network.del(&network::Attachment::new(&self.container))?;
        self.container.remove()
    }
}

fn network<'a>(lan: &'a Lan, manner: &Manner, number: u8) -> Network<'a> {
    let mut keys = json!({
        "mode": manner.mode,
        "mac": mac(number),
        "ipam": addresses(&[&format!("{}/24", address(number)), &format!("{}/64", address6(address(number)))]),
    });
    if manner.mode == "source" {
        keys["sourceMacs"] = match manner.listed {
            true => everybody(lan),
            false => json!(["02:00:00:00:00:99"]),
        };
    }
    Network::new(&lan.host, conflist(keys))
}

fn everybody(lan: &Lan) -> Value {
    let real = [lan.lan.link(Lan::SERVER_LINK), lan.host.link(Lan::MASTER)];
    let real = real.into_iter().flatten().filter_map(|link| Some(link.mac?.to_string()));
    (10..40).map(mac).chain(real).collect()
}

/// The kernel keeps broadcasts from private neighbours, and with them ARP. Who knows an address without asking gets
/// through, if the switch sends frames back.
fn private_containers_that_know_each_other_without_asking_are_not_kept_apart(_: &World) -> Result {
    let lan = Lan::new()?;
    switch(&lan)?;
    hairpin(&lan, true)?;
    let private = Manner::new("private", "private");
    let attached = [Attached::new(&lan, &private, 10)?, Attached::new(&lan, &private, 11)?];
    let containers = [&attached[0].container, &attached[1].container];
    ensure!(containers[0].ping(address(11).into(), A_MOMENT).is_err());
    for (container, other) in containers.iter().zip([11, 10]) {
        let (address, mac) = (address(other).to_string(), mac(other));
        container.output(&["ip", "neigh", "replace", &address, "lladdr", &mac, "dev", "eth0"])?;
    }
    containers[0].ping(address(11).into(), SOON)?;
    hairpin(&lan, false)?;
    ensure!(containers[0].ping(address(11).into(), A_MOMENT).is_err());
    Ok(())
}

/// Puts a switch between the cable and the LAN's address.
fn switch(lan: &Lan) -> Result {
    let netlink = lan.lan.netlink()?;
    netlink.add_bridge("br0")?;
    let (bridge, port) = (lan.lan.link("br0")?, lan.lan.link(Lan::SERVER_LINK)?);
    netlink.delete_address(port.index, Lan::NET)?;
    netlink.set_master(port.index, Some(bridge.index))?;
    netlink.set_up(bridge.index)?;
    lan.lan.add_address("br0", Lan::NET.into())?;
    lan.lan.add_address("br0", Lan::NET6.into())
}

/// Whether the switch sends frames back where they came from (802.1Qbg, reflective relay).
fn hairpin(lan: &Lan, on: bool) -> Result {
    let state = if on { "on" } else { "off" };
    lan.lan.output(&["bridge", "link", "set", "dev", Lan::SERVER_LINK, "hairpin", state])?;
    Ok(())
}

/// Nothing is routed or translated on the way, so nothing need be masqueraded; the key for that means nothing here.
fn servers_see_the_containers_own_address(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let beyond = Ipv4Addr::new(198, 51, 100, 1); // what the router routes to
    lan.lan.add_address("lo", IpNet::from(IpAddr::V4(beyond)))?;
    let container = lan.container("c1")?;
    let ipam = json!({
        "type": "static",
        "addresses": [{ "address": "10.99.0.61/24", "gateway": Lan::ADDRESS }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipMasq": true, "ipam": ipam })));
    network.add(&network::Attachment::new(&container))?;
    for server in [Lan::ADDRESS, beyond] {
        let listener = lan.lan.run(|| TcpListener::bind((server, 0)))??;
        let address = listener.local_addr()?;
        let client = container.run(|| TcpStream::connect_timeout(&address, SOON))??;
        let (_, seen) = listener.accept()?;
        ensure!(
            seen == client.local_addr()? && seen.ip() == IpAddr::from([10, 99, 0, 61]),
            "{server} sees {seen}"
        );
    }
    Ok(())
}
