//! `guard`: the container speaks only as itself, and only what is allowed reaches it.

mod allow;
mod frames;
mod lease;
mod programs;
mod random;
mod rogues;
mod verbs;

use std::net::{Ipv4Addr, Ipv6Addr};

use lab::frames::{FrameSocket, Macs};
use lab::serde_json::{Value, json};
use lab::{Attachment, Lan, Network, Node, Result, Test};

use crate::scenario::conflist;

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        frames::TESTS,
        random::TESTS,
        rogues::TESTS,
        lease::TESTS,
        programs::TESTS,
        allow::TESTS,
        verbs::TESTS,
    ]
    .concat()
}

/// The addresses of the container that is looked at, and of another one.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 50);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x50);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 60);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x60);

/// A conflist with this guard, whose containers have these addresses.
fn guarded(guard: Value, addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = (addresses.iter())
        .map(|address| json!({ "address": address }))
        .collect();
    conflist(json!({
        "guard": guard,
        "ipam": { "type": "static", "addresses": addresses },
    }))
}

/// A container with the addresses [`OWN`] and [`OWN6`] and this guard.
fn container(lan: &Lan, name: &str, guard: Value) -> Result<Node> {
    let container = lan.container(name)?;
    let conflist = guarded(guard, &["10.99.0.50/24", "fd99::50/64"]);
    Network::new(&lan.host, conflist).add(&Attachment::new(&container))?;
    Ok(container)
}

/// A LAN with a container on it, which is guarded or not, and a socket at each end.
struct Ends {
    lan: Lan,
    inside: FrameSocket,
    outside: FrameSocket,
}

impl Ends {
    fn new(guard: Value) -> Result<Ends> {
        let lan = Lan::with_ipv6()?;
        let container = container(&lan, "c1", guard)?;
        let inside = FrameSocket::open(&container, "eth0")?;
        let outside = FrameSocket::open(&lan.lan, Lan::SERVER_LINK)?;
        Ok(Ends {
            lan,
            inside,
            outside,
        })
    }

    /// From the container to all.
    fn to_all(&self) -> Macs {
        Macs {
            from: self.inside.mac,
            to: [0xff; 6],
        }
    }
}

/// The interface identifier that the kernel makes of a MAC (RFC 4291 appendix A).
fn derived(prefix: u16, mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let group = |high, low| u16::from_be_bytes([high, low]);
    let id = [group(a ^ 2, b), group(c, 0xff), group(0xfe, d), group(e, f)];
    Ipv6Addr::new(prefix, 0, 0, 0, id[0], id[1], id[2], id[3])
}
