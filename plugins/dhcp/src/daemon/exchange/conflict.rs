//! Finding out whether another host has an address, before it is used (RFC 5227) or released.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use linknet::{Mac, Netns, Sighting};
use tokio::time::Instant;

use super::arp::AsyncArp;
use crate::protocol::ConflictDetection;
use crate::random::random_octets;

/// When probes are sent, and how long to wait for an objection after the last.
struct Pace {
    /// The longest pause before the first probe.
    max_delay: Duration,
    /// The shortest and longest pause between two probes.
    interval: (Duration, Duration),
    /// The pause after the last probe.
    listen: Duration,
}

/// PROBE_NUM of RFC 5227 §1.1.
const PROBES: usize = 3;

/// How long answers are waited for after each question before an address is released.
const BEFORE_RELEASE: [Duration; PROBES] = [
    Duration::from_millis(30),
    Duration::from_millis(30),
    Duration::from_millis(40),
];

impl Pace {
    fn of(detection: ConflictDetection) -> Option<Pace> {
        let milliseconds = Duration::from_millis;
        match detection {
            ConflictDetection::Off => None,
            // 200 ms in all: a host answers within a few, and one of three probes gets through.
            ConflictDetection::Fast => Some(Pace {
                max_delay: Duration::ZERO,
                interval: (milliseconds(60), milliseconds(60)),
                listen: milliseconds(80),
            }),
            // PROBE_WAIT, PROBE_MIN, PROBE_MAX and ANNOUNCE_WAIT of RFC 5227 §1.1.
            ConflictDetection::Rfc5227 => Some(Pace {
                max_delay: milliseconds(1000),
                interval: (milliseconds(1000), milliseconds(2000)),
                listen: milliseconds(2000),
            }),
        }
    }

    /// The pause between two probes: the shortest for a `fraction` of 0, the longest for 1.
    fn between_probes(&self, fraction: f64) -> Duration {
        let (shortest, longest) = self.interval;
        shortest + (longest - shortest).mul_f64(fraction)
    }
}

/// Looks for another host that has the address, or probes for it too, on a link in this netns, and
/// returns its MAC.
///
/// # Errors
/// If the link is gone.
pub(crate) async fn find_contender(
    netns: &Netns,
    ifindex: u32,
    address: Ipv4Addr,
    detection: ConflictDetection,
) -> io::Result<Option<Mac>> {
    match Pace::of(detection) {
        Some(pace) => find_station(netns, ifindex, address, pace).await,
        None => Ok(None),
    }
}

/// Who uses an address on the LAN, as far as ARP can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// The station with this MAC.
    By(Mac),
    /// Nobody who answers.
    Silence,
    /// Nobody answers at all, not even those who are there: the question does not reach the LAN, or
    /// the answers do not reach us.
    Deaf,
}

/// Looks for another host that has the address, on a link in this netns that no longer has it. It
/// takes 100 ms if there is none. The witnesses are addresses of stations that are there, and are
/// asked as well.
///
/// # Errors
/// If the link is gone.
pub(crate) async fn find_user(
    netns: &Netns,
    ifindex: u32,
    address: Ipv4Addr,
    witnesses: &[Ipv4Addr],
) -> io::Result<Usage> {
    let socket = AsyncArp::open(netns, ifindex)?;
    let mut silence = Usage::Deaf;
    for pause in BEFORE_RELEASE {
        socket.send(|socket| socket.inquire(address))?;
        if silence == Usage::Deaf {
            for &witness in witnesses {
                socket.send(|socket| socket.inquire(witness))?;
            }
        }
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let sighting = socket.receive(left, |socket| socket.sighting(address, witnesses));
            match sighting.await? {
                Some(Sighting::User(mac)) => return Ok(Usage::By(mac)),
                Some(Sighting::Witness) => silence = Usage::Silence,
                None => break,
            }
        }
    }
    Ok(silence)
}

async fn find_station(
    netns: &Netns,
    ifindex: u32,
    address: Ipv4Addr,
    pace: Pace,
) -> io::Result<Option<Mac>> {
    let socket = AsyncArp::open(netns, ifindex)?;
    let listen = |within| socket.receive(within, |socket| socket.contender(address));
    let mut pause = pace.max_delay.mul_f64(fraction()?);
    for _ in 0..PROBES {
        if let Some(mac) = listen(pause).await? {
            return Ok(Some(mac));
        }
        socket.send(|socket| socket.probe(address))?;
        pause = pace.between_probes(fraction()?);
    }
    listen(pace.listen).await
}

/// A random number from 0 to 1: hosts that start together must not probe together.
fn fraction() -> io::Result<f64> {
    let random = u32::from_ne_bytes(random_octets()?);
    Ok(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_as_far_apart_as_rfc_5227_says() {
        let pace = Pace::of(ConflictDetection::Rfc5227).expect("it probes");
        let seconds = |fraction| pace.between_probes(fraction).as_secs_f64();
        assert_eq!([seconds(0.0), seconds(0.5), seconds(1.0)], [1.0, 1.5, 2.0]);
    }

    #[test]
    fn a_random_fraction_is_from_0_to_1_and_not_always_the_same() {
        let some: Vec<f64> = (0..100)
            .map(|_| fraction().expect("random octets"))
            .collect();
        assert!(some.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        let is_spread = |low: f64, high: f64| some.iter().any(|it| (low..=high).contains(it));
        assert!(is_spread(0.0, 0.4) && is_spread(0.6, 1.0), "{some:?}");
    }
}
