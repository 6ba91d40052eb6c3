//! What a program without privileges sends to DHCP servers, through the kernel's own UDP: the rules
//! see it before it is cut into segments, and before the program last changes it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::{fs::File, thread};

use attachment::guard::SOCKET_MARK;
use lab::anyhow::{Context, anyhow, ensure};
use lab::frames::FrameSocket;
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Node, Result, Test, World, test, until};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::frames::dhcp;
use super::{OTHER, OWN, container};
use crate::scenario::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(a_guarded_program_reaches_no_dhcp_server).needs(&[packages::GO_PLUGINS]),
    test!(an_unguarded_program_reaches_dhcp_servers).needs(&[packages::GO_PLUGINS]),
    test!(a_program_without_capabilities_cannot_set_the_mark).needs(&[packages::GO_PLUGINS]),
];

const SERVER: (Ipv4Addr, u16) = (Lan::ADDRESS, 67);
const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 68);

/// What a program has: a socket, its own client's message, and one for another client.
struct Program {
    socket: UdpSocket,
    own: Vec<u8>,
    forged: Vec<u8>,
}

type Attack = (&'static str, fn(&Program) -> io::Result<()>);

const ATTACKS: [Attack; 3] = [
    ("a message of its own", |program| {
        program.socket.send(&program.own).map(drop)
    }),
    ("a forged message in the second segment", |program| {
        setsockopt(&program.socket, sockopt::UdpGsoSegment, &300)?;
        let both = [&program.own[..], &program.forged].concat();
        let sent = program.socket.send(&both).map(drop);
        setsockopt(&program.socket, sockopt::UdpGsoSegment, &0)?;
        sent
    }),
    ("a message in a page that it changes later", |program| {
        let mut file = File::from(memfd_create("message", MemfdFlags::CLOEXEC)?);
        file.write_all(&program.own)?;
        sendfile(&program.socket, &file, Some(&mut 0), program.own.len())?;
        file.write_all_at(&program.forged, 0)
    }),
];

fn a_guarded_program_reaches_no_dhcp_server(_: &World) -> Result {
    let lan = Lan::new()?;
    let arrived = arrived(&lan, &container(&lan, "c1", json!(true))?)?;
    ensure!(arrived.is_empty(), "{arrived:?}");
    Ok(())
}

/// Otherwise the test above would prove nothing.
fn an_unguarded_program_reaches_dhcp_servers(_: &World) -> Result {
    let lan = Lan::new()?;
    let arrived = arrived(&lan, &container(&lan, "c1", json!(false))?)?;
    ensure!(arrived == ATTACKS.map(|(what, _)| what), "{arrived:?}");
    Ok(())
}

/// The attacks of which something arrives on the LAN, at a DHCP server's port.
fn arrived(lan: &Lan, container: &Node) -> Result<Vec<&'static str>> {
    let outside = FrameSocket::open(&lan.lan, Lan::SERVER_LINK)?;
    // Without one, the program would be told that there is none.
    let _server = lan.lan.run(|| UdpSocket::bind(SERVER))??;
    let mac = container.link("eth0")?.mac.context("a MAC")?.octets();
    let socket = container.run(|| UdpSocket::bind(CLIENT))??;
    socket.connect(SERVER)?;
    let program = Program {
        socket,
        own: dhcp(OWN, Ipv4Addr::UNSPECIFIED, mac),
        forged: dhcp(OTHER, Ipv4Addr::UNSPECIFIED, [2, 7, 7, 7, 7, 7]),
    };
    let last = container.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    let mut arrived = Vec::new();
    for (what, attack) in ATTACKS {
        attack(&program).context(what)?;
        // Behind it a datagram that is let through: when it is here, so is everything before it.
        last.send_to(b"last", (Lan::ADDRESS, 9))?;
        let to_server = until("the last datagram arrives", SOON, || {
            let mut to_server = false;
            while let Ok(Some(frame)) = outside.receive() {
                match (frame.get(23), frame.get(36..38)) {
                    (Some(17), Some([0, 67])) => to_server = true,
                    (Some(17), Some([0, 9])) => return Some(to_server),
                    _ => {}
                }
            }
            None
        })?;
        if to_server {
            arrived.push(what);
        }
    }
    Ok(arrived)
}

fn a_program_without_capabilities_cannot_set_the_mark(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = container(&lan, "c1", json!(true))?;
    let socket = container.run(|| UdpSocket::bind(CLIENT))??;
    setsockopt(&socket, sockopt::Mark, &SOCKET_MARK).context("with capabilities")?;
    let set_without = || -> Result<nix::Result<()>> {
        let only = CapabilitySet::NET_BIND_SERVICE;
        let sets = CapabilitySets {
            effective: only,
            permitted: only,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).context("drop the capabilities")?;
        Ok(setsockopt(&socket, sockopt::Mark, &(SOCKET_MARK + 1)))
    };
    // The capabilities are the thread's.
    let outcome = thread::scope(|scope| scope.spawn(set_without).join());
    let outcome = outcome.map_err(|_| anyhow!("the thread panicked"))??;
    ensure!(outcome == Err(Errno::EPERM), "{outcome:?}");
    Ok(())
}
