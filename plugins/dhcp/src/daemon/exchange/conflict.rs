//! Finding out whether another host has an address, before it is used (RFC 5227).

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use linknet::{ArpSocket, Mac, Netns};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::daemon::random::random_octets;
use crate::daemon::watchers::{close_on_thread, watch};
use crate::protocol::ConflictDetection;

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
    let Some(pace) = Pace::of(detection) else {
        return Ok(None);
    };
    let socket = netns
        .run(|| ArpSocket::open(ifindex))?
        .map_err(io::Error::other)?;
    let socket = ProbeSocket(Some(watch(socket)?));
    let mut next = Instant::now() + pace.max_delay.mul_f64(fraction()?);
    for _ in 0..PROBES {
        if let Some(mac) = socket.listen(address, next).await? {
            return Ok(Some(mac));
        }
        socket.probe(address)?;
        let (least, most) = pace.interval;
        next = Instant::now() + least + (most - least).mul_f64(fraction()?);
    }
    socket.listen(address, Instant::now() + pace.listen).await
}

/// A socket that is closed on another thread.
struct ProbeSocket(Option<AsyncFd<ArpSocket>>);

impl ProbeSocket {
    fn socket(&self) -> io::Result<&AsyncFd<ArpSocket>> {
        self.0
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        match self.socket()?.get_ref().probe(address) {
            // It counts as lost on the way; there are others.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Listens for an objection until this time.
    async fn listen(&self, address: Ipv4Addr, until: Instant) -> io::Result<Option<Mac>> {
        loop {
            let mut ready = tokio::select! {
                ready = self.socket()?.readable() => ready?,
                () = sleep_until(until) => return Ok(None),
            };
            match ready.get_inner().contender(address)? {
                None => ready.clear_ready(),
                contender => return Ok(contender),
            }
        }
    }
}

impl Drop for ProbeSocket {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            close_on_thread(socket.into_inner());
        }
    }
}

/// A random number from 0 to 1: hosts that start together must not probe together.
fn fraction() -> io::Result<f64> {
    let random = u32::from_ne_bytes(random_octets()?);
    Ok(f64::from(random) / f64::from(u32::MAX))
}
