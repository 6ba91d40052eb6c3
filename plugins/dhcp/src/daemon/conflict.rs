//! Finding out whether somebody else has an address before it is used (RFC 5227).

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use linknet::{ArpSocket, Mac, Netns};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::watch::watch;
use crate::protocol::ConflictDetection;

/// When probes go out, and how long an objection is waited for after the last.
struct Pace {
    /// Before the first probe, at most.
    wait: Duration,
    /// Between two probes, at least and at most.
    between: (Duration, Duration),
    /// After the last.
    listen: Duration,
}

/// PROBE_NUM of RFC 5227 §1.1.
const PROBES: usize = 3;

impl Pace {
    fn of(detection: ConflictDetection) -> Option<Pace> {
        let milliseconds = Duration::from_millis;
        match detection {
            ConflictDetection::Off => None,
            // 200 ms in all: whoever has the address answers within a few, and one of three probes
            // gets through.
            ConflictDetection::Fast => Some(Pace {
                wait: Duration::ZERO,
                between: (milliseconds(60), milliseconds(60)),
                listen: milliseconds(80),
            }),
            // PROBE_WAIT, PROBE_MIN, PROBE_MAX and ANNOUNCE_WAIT of RFC 5227 §1.1.
            ConflictDetection::Rfc5227 => Some(Pace {
                wait: milliseconds(1000),
                between: (milliseconds(1000), milliseconds(2000)),
                listen: milliseconds(2000),
            }),
        }
    }
}

/// Looks for somebody else who has the address, or wants it too, on a link in this netns.
///
/// # Errors
/// When the link is gone.
pub(crate) async fn contender(
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
    let socket = Probing(Some(watch(socket)?));
    let mut next = Instant::now() + pace.wait.mul_f64(fraction()?);
    for _ in 0..PROBES {
        if let Some(mac) = socket.listen(address, next).await? {
            return Ok(Some(mac));
        }
        socket.probe(address)?;
        let (least, most) = pace.between;
        next = Instant::now() + least + (most - least).mul_f64(fraction()?);
    }
    socket.listen(address, Instant::now() + pace.listen).await
}

/// A socket that is closed off the event loop: that takes an RCU grace period.
struct Probing(Option<AsyncFd<ArpSocket>>);

impl Probing {
    fn socket(&self) -> io::Result<&AsyncFd<ArpSocket>> {
        self.0
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        match self.socket()?.get_ref().probe(address) {
            // As good as lost on the way; there are others.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Listens until then.
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

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            let socket = socket.into_inner();
            spawn_blocking(move || drop(socket));
        }
    }
}

/// Anything from 0 to 1: stations that start together must not probe together.
fn fraction() -> io::Result<f64> {
    let mut octets = [0; 4];
    rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())?;
    Ok(f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX))
}
