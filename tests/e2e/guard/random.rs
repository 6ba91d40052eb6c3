//! Ten thousand frames that somebody made up, and what of them arrives on the LAN.

use std::net::Ipv6Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::frames::udp;
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Result, Test, World, test, until};

use attachment::guard::SOCKET_MARK;

use super::{Ends, OTHER, OWN, OWN6, derived, frames};
use crate::scenario::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(of_ten_thousand_random_frames_only_its_own_arrive)
        .needs(&[packages::GO_PLUGINS])
        .within(Duration::from_secs(120)),
    test!(of_ten_thousand_random_frames_past_the_queue_only_its_own_arrive)
        .needs(&[packages::GO_PLUGINS])
        .within(Duration::from_secs(120)),
    test!(of_ten_thousand_random_frames_most_leave_an_unguarded_container)
        .needs(&[packages::GO_PLUGINS])
        .within(Duration::from_secs(120)),
];

const FRAMES: usize = 10_000;

/// How many are sent before the LAN's side is looked at: its socket holds more than that.
const BURST: usize = 50;

/// Pseudo-random numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    /// A frame like one of these, with some octets changed, or nothing but noise behind the MACs.
    fn frame(&mut self, like: &frames::Frames) -> Vec<u8> {
        let (_, frame) = &like[self.below(like.len())];
        let mut frame = frame.clone();
        if self.below(10) == 0 {
            for octet in &mut frame[12..] {
                *octet = self.below(256) as u8;
            }
        }
        for _ in 0..self.below(4) {
            let at = self.below(frame.len().min(90));
            frame[at] = match self.below(3) {
                0 => self.below(256) as u8,
                1 => frame[self.below(frame.len())],
                _ => frame[at] ^ 1 << self.below(8),
            };
        }
        frame
    }
}

/// What arrived: frames of the container's own, and others.
#[derive(Default)]
struct Arrived {
    own: usize,
    others: Vec<Vec<u8>>,
}

fn send_all(ends: &Ends, past_the_queue: bool) -> Result<Arrived> {
    let macs = ends.to_all();
    let like = [
        frames::own(macs),
        frames::dhcp_client(macs),
        frames::others(macs),
    ]
    .concat();
    let mut random = Random(0x6c65_6173_6568_6f6c);
    let mut arrived = Arrived::default();
    let host = ends.lan.host.link(Lan::MASTER)?.mac;
    let host = host.context("a MAC")?.octets();
    for burst in 0..FRAMES / BURST {
        // Every other burst has the mark of leasehold's own messages.
        let is_marked = burst % 2 == 0;
        ends.inside.mark(if is_marked { SOCKET_MARK } else { 0 })?;
        ends.inside.bypass_queue(past_the_queue)?;
        for _ in 0..BURST {
            ends.inside.send(&random.frame(&like), 0)?;
        }
        // Behind them one that is let through: when it is here, so is everything before it.
        let last = udp(
            macs,
            [OWN, OTHER],
            [9, 9],
            format!("burst {burst}").as_bytes(),
        );
        ends.inside.bypass_queue(false)?;
        ensure!(ends.inside.send(&last, 0)?, "the last of a burst");
        let mut is_here = false;
        until("the last frame arrives", SOON, || {
            while let Ok(Some(frame)) = ends.outside.receive() {
                is_here |= frame == last;
                if frame.get(6..12) == Some(&host) {
                    continue; // the host's own
                }
                match is_own(&frame, ends.inside.mac, is_marked) {
                    true => arrived.own += 1,
                    false => arrived.others.push(frame),
                }
            }
            is_here
        })?;
    }
    Ok(arrived)
}

/// Whether a frame is one that the container with this MAC sends as itself, or leasehold in it.
fn is_own(frame: &[u8], mac: [u8; 6], is_marked: bool) -> bool {
    is_from(frame, mac, is_marked).unwrap_or(false)
}

/// `None` if the frame is too short for what it says that it is.
fn is_from(frame: &[u8], mac: [u8; 6], is_marked: bool) -> Option<bool> {
    let at = |range: std::ops::Range<usize>| frame.get(range);
    if at(6..12)? != mac {
        return Some(false);
    }
    Some(match at(12..14)? {
        [8, 6] => {
            let (sender, target) = (at(28..32)?, at(38..42)?);
            let is_probe = sender == [0; 4] && target == OWN.octets() && at(20..22)? == [0, 1];
            at(22..28)? == mac && (sender == OWN.octets() || is_probe)
        }
        [8, 0] => {
            let is_first = at(20..22)?[0] & 0x1f == 0 && at(21..22)? == [0];
            let header = usize::from(at(14..15)?[0] & 15) * 4;
            let data = frame.get(14 + header..).unwrap_or_default();
            let (source, protocol) = (at(26..30)?, at(23..24)?[0]);
            let to_server = protocol == 17 && is_first && data.get(2..4) == Some(&[0, 67]);
            match source {
                [0, 0, 0, 0] => to_server && is_marked && is_clients(frame, mac)?,
                own if own == OWN.octets() && to_server => is_marked && is_clients(frame, mac)?,
                own if own == OWN.octets() => {
                    !is_first || !is_servers_ipv4(protocol, data, at(30..34)?)
                }
                _ => false,
            }
        }
        [0x86, 0xdd] => {
            let source = Ipv6Addr::from(*at(22..38)?.first_chunk::<16>()?);
            let derived = derived(0, mac);
            let is_derived = source.octets()[8..] == derived.octets()[8..];
            let data = frame.get(54..).unwrap_or_default();
            let to = Ipv6Addr::from(*at(38..54)?.first_chunk::<16>()?);
            match at(20..21)?[0] {
                58 if source.is_unspecified() => matches!(data.first(), Some(133 | 135)),
                0 if source.is_unspecified() => matches!(data.get(8), Some(131 | 132 | 143)),
                next if source == OWN6 || is_derived => !is_servers_ipv6(next, data, to),
                _ => false,
            }
        }
        _ => false,
    })
}

/// Whether this is the whole message of a DHCP client, for the container's MAC and its own address
/// or none.
fn is_clients(frame: &[u8], mac: [u8; 6]) -> Option<bool> {
    let at = |range: std::ops::Range<usize>| frame.get(range);
    let number = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk::<2>()?));
    let is_whole = number(20)? & 0x3fff == 0 && number(16)? >= 62;
    let is_for_own = [OWN.octets(), [0; 4]]
        .iter()
        .any(|own| at(54..58) == Some(own));
    let is_from_client = at(34..38)? == [0, 68, 0, 67] && at(42..45)? == [1, 1, 6];
    Some(is_whole && is_from_client && is_for_own && at(66..70)? == [0; 4] && at(70..76)? == mac)
}

/// Whether this is a message of a DHCP server's or a router's.
fn is_servers_ipv4(protocol: u8, data: &[u8], to: &[u8]) -> bool {
    match protocol {
        1 => matches!(data.first(), Some(5 | 9)),
        2 => !matches!(data.first(), Some(0x12 | 0x16 | 0x17 | 0x22)),
        17 => {
            let is_to_router = matches!(to, [224, 0, 0, 2..=21 | 102 | 111]);
            data.starts_with(&[0, 67])
                || matches!(data.get(2..4), Some([0, 67 | 68] | [2, 8 | 9]))
                || is_to_router
        }
        88 | 89 | 103 | 112 => true,
        _ => false,
    }
}

fn is_servers_ipv6(next: u8, data: &[u8], to: Ipv6Addr) -> bool {
    match next {
        58 => matches!(data.first(), Some(130 | 134 | 137 | 138)),
        17 => {
            let is_to_router = matches!(
                to.segments(),
                [0xff02, 0, 0, 0, 0, 0, 0, 2..=0xb | 0xd | 0x12 | 0x66]
                    | [0xff02, 0, 0, 0, 0, 0, 1, 6]
            );
            data.starts_with(&[2, 0x23])
                || matches!(data.get(2..4), Some([2, 8 | 9 | 0x22]))
                || is_to_router
        }
        0 => matches!(data.get(8), Some(130 | 134 | 137)),
        43 | 51 | 60 | 88 | 89 | 103 | 112 | 135 | 139 | 140 => true,
        _ => false,
    }
}

fn of_ten_thousand_random_frames_only_its_own_arrive(_: &World) -> Result {
    ensure_only_own(false)
}

fn of_ten_thousand_random_frames_past_the_queue_only_its_own_arrive(_: &World) -> Result {
    ensure_only_own(true)
}

fn ensure_only_own(past_the_queue: bool) -> Result {
    let arrived = send_all(&Ends::new(json!(true))?, past_the_queue)?;
    let others = arrived.others;
    ensure!(
        others.is_empty(),
        "{} of others: {:x?}",
        others.len(),
        others[0]
    );
    ensure!(
        arrived.own > FRAMES / 10,
        "only {} frames arrived",
        arrived.own
    );
    Ok(())
}

fn of_ten_thousand_random_frames_most_leave_an_unguarded_container(_: &World) -> Result {
    let arrived = send_all(&Ends::new(json!(false))?, false)?;
    let others = arrived.others.len();
    ensure!(others > FRAMES / 2, "only {others} of others arrived");
    Ok(())
}
