//! What the plugins and the daemon do without the kernel: each a task whose instructions are
//! counted.

use std::env;
use std::fmt;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use cni::{CniResult, Env, KnownArgs, Request, Version};
use dhcp4::{Client, Config, Event, Instant};
use lab::dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
use lab::dhcproto::{Decodable, Decoder, Encodable};
use lab::serde_json::{Value, json};

/// The variables by which this program is asked for a task, and how often to do it.
pub(crate) const TASK: &str = "BUDGETS_TASK";
pub(crate) const TIMES: &str = "BUDGETS_TIMES";

/// Something to do, after it was prepared.
pub(crate) struct Task {
    /// What it does, after "to".
    pub(crate) name: &'static str,
    prepare: fn() -> Box<dyn Fn()>,
}

pub(crate) const ALL: &[Task] = &[
    Task {
        name: "parse a request",
        prepare: parse,
    },
    Task {
        name: "write a result for CNI 0.3.1",
        prepare: || convert(Version::V0_3_1),
    },
    Task {
        name: "write a result for CNI 1.1.0",
        prepare: || convert(Version::V1_1_0),
    },
    Task {
        name: "lease an address, from DISCOVER to ACK",
        prepare: lease,
    },
];

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Task {
    /// What is to be done again and again.
    pub(crate) fn prepare(&self) -> Box<dyn Fn()> {
        (self.prepare)()
    }
}

/// The task that this process was started for.
pub(crate) fn asked_for() -> Option<(String, u64)> {
    Some((env::var(TASK).ok()?, env::var(TIMES).ok()?.parse().ok()?))
}

/// Does a task some times.
pub(crate) fn run(name: &str, times: u64) {
    let task = ALL.iter().find(|task| task.name == name);
    let act = task.expect("a task of this name").prepare();
    for _ in 0..times {
        act();
    }
}

fn parse() -> Box<dyn Fn()> {
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "f2a0bf1e5d5a4b6c8d7e9f0a1b2c3d4e"),
        ("CNI_NETNS", "/run/netns/cni-6b5f2a0e"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
        ),
    ];
    let env: Env = variables.into_iter().collect();
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "lan",
        "type": "macvlan",
        "master": "eth1",
        "mode": "bridge",
        "ipam": { "type": "dhcp", "provide": [{ "option": "host-name", "fromArg": "K8S_POD_NAME" }] },
    })
    .to_string();
    Box::new(move || {
        let request = Request::parse(black_box(&env), config.as_bytes(), KnownArgs::Any);
        black_box(request.expect("it is valid"));
    })
}

fn convert(version: Version) -> Box<dyn Fn()> {
    let document = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/web" }],
        "ips": [{ "address": "10.99.0.100/24", "gateway": "10.99.0.1", "interface": 0 }],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.99.0.1" }],
        "dns": { "nameservers": ["10.99.0.1"], "domain": "lan", "search": ["lan"] },
    });
    let result = CniResult::from_value(document, Version::V1_1_0).expect("a result");
    Box::new(move || {
        let written: Value = black_box(&result).to_value(version);
        black_box(written.to_string());
    })
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const NOW: Instant = Instant::from_boot(Duration::from_secs(1000));

/// The same seed gives the same transaction, so the server's answers are made once.
fn lease() -> Box<dyn Fn()> {
    let mut answers = Vec::new();
    exchange(|request| {
        answers.push(answer(request));
        answers[answers.len() - 1].clone()
    });
    Box::new(move || {
        let mut next = answers.iter();
        exchange(|_| next.next().expect("an answer").clone());
    })
}

/// A client from its start until it has an address.
fn exchange(mut server: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut client = Client::new(Config::new(MAC), 1, NOW);
    client.handle_timeout(NOW);
    while let Some(transmit) = client.poll_transmit() {
        let answer = server(&transmit.payload);
        let taken = client.handle_packet(NOW, &answer, SERVER);
        taken.expect("the answer is awaited");
    }
    assert!(matches!(client.poll_event(), Some(Event::Bound(_))));
}

/// OFFER to a DISCOVER, and ACK to a REQUEST.
fn answer(request: &[u8]) -> Vec<u8> {
    let request = Message::decode(&mut Decoder::new(request)).expect("a message");
    let kind = match request.opts().msg_type() {
        Some(MessageType::Discover) => MessageType::Offer,
        _ => MessageType::Ack,
    };
    let mut answer = Message::default();
    answer
        .set_opcode(Opcode::BootReply)
        .set_xid(request.xid())
        .set_chaddr(&MAC)
        .set_yiaddr(ADDRESS);
    let options = answer.opts_mut();
    for option in [
        DhcpOption::MessageType(kind),
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![SERVER]),
        DhcpOption::DomainName("lan".to_owned()),
    ] {
        options.insert(option);
    }
    answer.to_vec().expect("it can be encoded")
}
