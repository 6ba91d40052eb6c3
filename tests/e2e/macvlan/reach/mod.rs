//! Who can talk to whom, in each mode: measured, and compared with the table in the documentation.
//!
//! `LEASEHOLD_WRITE_TABLES=1` writes the table instead.

mod cable;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, deadline, network, test};

use self::cable::{Attached, HOST, Manner, address6, hairpin, wire};
use crate::scenario::{SOON, conflist};

pub(super) const TESTS: &[Test] = &[
    test!(the_documented_reachability_is_as_measured)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(private_containers_with_static_neighbours_reach_each_other)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(servers_see_the_containers_own_address).needs(&[packages::GO_PLUGINS]),
];

const DOCUMENT: &str = include_str!("../../../../docs/modes.md");
const DOCUMENTS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/modes.md");
const BEGIN: &str = "<!-- measured: tests/e2e/macvlan/reach -->\n";
const END: &str = "<!-- end of what is measured -->\n";

/// How long an answer that must not come is waited for: many times as long as ARP and an answer
/// take.
const SILENCE_WAIT: Duration = Duration::from_millis(400);

/// The columns: containers that are pinged, on the same parent.
const COLUMNS: [Manner; 5] = [
    Manner::new("bridge"),
    HOST_ACCESS,
    Manner::new("private"),
    Manner::new("vepa"),
    Manner::new("source"),
];

/// The rows: containers that ping, one each. Those after them are [`AROUND`] and passthru's.
const ROWS: [Manner; 6] = [
    Manner::new("bridge"),
    HOST_ACCESS,
    Manner::new("private"),
    Manner::new("vepa"),
    Manner {
        label: "source, the other listed",
        ..Manner::new("source")
    },
    Manner {
        label: "source, the other not listed",
        listed: false,
        ..Manner::new("source")
    },
];

const HOST_ACCESS: Manner = Manner {
    label: "bridge, `hostAccess`",
    host_access: true,
    ..Manner::new("bridge")
};

/// Its parent must have no other.
const PASSTHRU: Manner = Manner::new("passthru");

/// Who is on the cable without being a container; both as rows and as columns.
const AROUND: [(&str, Ipv4Addr); 2] = [("the LAN", Lan::ADDRESS), ("the host", HOST)];

/// Who answers, by IPv4 and by IPv6.
type Answers = (bool, bool);

/// What was measured of a pair.
#[derive(Clone, Copy)]
enum Cell {
    /// It is the same one twice.
    Same,
    /// The second interface is refused.
    Refused,
    /// Whether the one reaches the other behind an ordinary switch, and behind one that sends
    /// frames back.
    Reaches(Answers, Answers),
}

impl Cell {
    fn text(self) -> String {
        const NO: Answers = (false, false);
        const YES: Answers = (true, true);
        match self {
            Cell::Same => "–".to_owned(),
            Cell::Refused => "refused".to_owned(),
            Cell::Reaches(YES, YES) => "yes".to_owned(),
            Cell::Reaches(NO, YES) => "reflected".to_owned(),
            Cell::Reaches(NO, NO) => "no".to_owned(),
            Cell::Reaches(ordinary, reflecting) => {
                format!("{ordinary:?}, reflected {reflecting:?}")
            }
        }
    }
}

fn the_documented_reachability_is_as_measured(_: &World) -> Result {
    let lan = Lan::new()?;
    wire(&lan)?;
    let (before, rest) = DOCUMENT
        .split_once(BEGIN)
        .context("the page has a place for the table")?;
    let (documented, after) = rest.split_once(END).context("the table has an end")?;

    // On a busy machine an answer may be late, so a table that differs is measured again and again,
    // each time with more patience.
    let mut patience = SILENCE_WAIT;
    let mut measured = measure(&lan, patience)?;
    while measured != documented && patience < deadline(SOON) {
        patience = deadline(SOON).min(4 * patience);
        measured = measure(&lan, patience)?;
    }
    if std::env::var_os("LEASEHOLD_WRITE_TABLES").is_some_and(|value| value == "1") {
        fs::write(
            DOCUMENTS_PATH,
            [before, BEGIN, &measured, END, after].concat(),
        )?;
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
    Ok(table(&measure_all(lan, patience)?, &passthru))
}

/// The table in Markdown.
fn table(rows: &[Vec<Cell>], passthru: &[Cell]) -> String {
    let around = || AROUND.iter().map(|(label, _)| *label);
    let titles: Vec<&str> = ["from"]
        .into_iter()
        .chain(COLUMNS.iter().map(|manner| manner.label))
        .chain(around())
        .collect();
    let labels = ROWS
        .iter()
        .map(|manner| manner.label)
        .chain(around())
        .chain([PASSTHRU.label]);
    let rows = labels
        .zip(rows.iter().map(Vec::as_slice).chain([passthru]))
        .map(|(label, row)| {
            let cells: Vec<String> = row.iter().map(|cell| cell.text()).collect();
            format!("| {label} | {} |\n", cells.join(" | "))
        });
    let head = format!(
        "| {} |\n|{}\n",
        titles.join(" | "),
        "---|".repeat(titles.len())
    );
    [head].into_iter().chain(rows).collect()
}

/// A row of cells for each that asks, containers and others.
fn measure_all(lan: &Lan, patience: Duration) -> Result<Vec<Vec<Cell>>> {
    let attach = |manners: &[Manner], first: u8| -> Result<Vec<_>> {
        manners
            .iter()
            .zip(first..)
            .map(|(manner, number)| Attached::new(lan, manner, number))
            .collect()
    };
    let (rows, columns) = (attach(&ROWS, 10)?, attach(&COLUMNS, 20)?);
    let targets: Vec<Ipv4Addr> = columns
        .iter()
        .map(|column| column.node().1)
        .chain(AROUND.map(|(_, address)| address))
        .collect();
    let askers: Vec<(&Node, Ipv4Addr)> = rows.iter().map(Attached::node).collect();
    let mut cells = measure_each(lan, &askers, &targets, patience)?;
    // Not at the same time: these ask by broadcast, and containers that are asking overhear who
    // they are.
    cells.extend(measure_each(
        lan,
        &[(&lan.lan, Lan::ADDRESS), (&lan.host, HOST)],
        &targets,
        patience,
    )?);
    rows.into_iter()
        .chain(columns)
        .try_for_each(Attached::detach)?;
    Ok(cells)
}

/// Each asker's row.
fn measure_each(
    lan: &Lan,
    askers: &[(&Node, Ipv4Addr)],
    targets: &[Ipv4Addr],
    patience: Duration,
) -> Result<Vec<Vec<Cell>>> {
    let pairs: Vec<(&Node, Ipv4Addr)> = askers
        .iter()
        .flat_map(|(asker, _)| targets.iter().map(move |target| (*asker, *target)))
        .collect();
    let cells = both_switches(lan, &pairs, patience)?;
    let rows = askers
        .iter()
        .zip(cells.chunks(targets.len()))
        .map(|((_, own), cells)| {
            let cells = cells.iter().zip(targets);
            cells
                .map(|(cell, target)| if target == own { Cell::Same } else { *cell })
                .collect()
        });
    Ok(rows.collect())
}

/// The row of mode passthru.
fn passthru(lan: &Lan, patience: Duration) -> Result<Vec<Cell>> {
    let alone = Attached::new(lan, &PASSTHRU, 30)?;
    for (manner, number) in COLUMNS.iter().zip(31..) {
        ensure!(
            Attached::new(lan, manner, number).is_err(),
            "{} beside passthru",
            manner.label
        );
    }
    let pairs = AROUND.map(|(_, address)| (alone.node().0, address));
    let around = both_switches(lan, &pairs, patience)?;
    alone.detach()?;
    Ok(COLUMNS
        .iter()
        .map(|_| Cell::Refused)
        .chain(around)
        .collect())
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
        let ping = |from: &Node, to: IpAddr| {
            from.is_answered(to, patience)
                .is_ok_and(|answered| answered)
        };
        let pings: Vec<_> = pairs
            .iter()
            .map(|&(from, to)| {
                (
                    scope.spawn(move || ping(from, to.into())),
                    scope.spawn(move || ping(from, address6(to).into())),
                )
            })
            .collect();
        let answer =
            |ping: thread::ScopedJoinHandle<'_, bool>| ping.join().expect("a ping does not panic");
        pings
            .into_iter()
            .map(|(four, six)| (answer(four), answer(six)))
            .collect()
    })
}

/// The kernel keeps broadcasts from private neighbours, and with them ARP. Who knows an address
/// without asking gets through, if the switch sends frames back.
fn private_containers_with_static_neighbours_reach_each_other(_: &World) -> Result {
    let lan = Lan::new()?;
    wire(&lan)?;
    hairpin(&lan, true)?;
    let private = Manner::new("private");
    let (one, two) = (
        Attached::new(&lan, &private, 10)?,
        Attached::new(&lan, &private, 11)?,
    );
    let (asker, other) = (one.node().0, two.node().1);
    ensure!(!asker.is_answered(other.into(), SILENCE_WAIT)?);
    for (one, other) in [(&one, &two), (&two, &one)] {
        let (address, mac) = (other.node().1.to_string(), other.mac());
        one.node().0.output(&[
            "ip", "neigh", "replace", &address, "lladdr", &mac, "dev", "eth0",
        ])?;
    }
    asker.ping(other.into(), SOON)?;
    hairpin(&lan, false)?;
    ensure!(!asker.is_answered(other.into(), SILENCE_WAIT)?);
    Ok(())
}

/// Nothing is routed or translated on the way, so nothing need be masqueraded; the key for that
/// means nothing here.
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
