//! What a crowd's renewals cost, and whether they are in time: in the ordinary course of things, when
//! all are due at the same moment, and when the server comes back after a long time.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use lab::Result;
use lab::dhcp_server::{Packet, Reaction};
use lab::dhcproto::v4::MessageType;
use nix::sys::signal::Signal;

use crate::crowd::Member;
use crate::side::Side;
use crate::site::Site;
use crate::usage::cpu;

/// How often what the server has heard is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// T1 of leases of five minutes, whose cost is reported.
const FIVE_MINUTES_T1: Duration = Duration::from_secs(150);

/// Leases an address for each of the members, for this time, and measures their renewals. In the end
/// all of them have their leases.
pub(crate) fn measure(
    site: &Site,
    side: &Side,
    members: &[Member],
    lease_time: Duration,
) -> Result {
    site.server
        .reconfigure(|settings| settings.lease_time = Some(lease_time));
    let begun = Instant::now();
    side.add(members)?;
    let (leases, took) = (members.len(), begun.elapsed().as_secs_f64());
    println!("\n{leases} leases of {lease_time:?}, obtained in {took:.1} s:");
    burst(site, side, leases, lease_time)?;
    ordinary(site, side, leases, lease_time)?;
    outage(site, side, leases, lease_time)
}

/// The daemon sleeps until all leases are due, as if the machine were suspended.
fn burst(site: &Site, side: &Side, leases: usize, lease_time: Duration) -> Result {
    /// The latest T1 of a lease, with its jitter, as a share of its time.
    const LATEST_T1: f64 = 0.53;
    side.daemon.signal(Signal::SIGSTOP)?;
    thread::sleep(lease_time.mul_f64(LATEST_T1));
    site.server.take_received();
    side.daemon.signal(Signal::SIGCONT)?;
    let begun = Instant::now();
    let (mut renewed, mut most, mut rebinding) = (HashSet::new(), 0, 0);
    while renewed.len() < leases && begun.elapsed() < lease_time {
        let heard = listen(site, INTERVAL);
        most = most.max(heard.len());
        rebinding += heard.iter().filter(|packet| is_rebinding(packet)).count();
        renewed.extend(heard.iter().map(|packet| packet.ethernet_source));
    }
    println!(
        "- burst: all due at one moment, {} renewed within {:.1} s, at most {most} in {INTERVAL:?}; {rebinding} late; \
         {} lost",
        renewed.len(),
        begun.elapsed().as_secs_f64(),
        leases - site.server.leases().len(),
    );
    Ok(())
}

/// Every lease is renewed twice.
fn ordinary(site: &Site, side: &Side, leases: usize, lease_time: Duration) -> Result {
    site.server.take_received();
    let (begun, cpu_before) = (Instant::now(), cpu(&side.daemon)?);
    let (mut renewals, mut rebinding, mut fewest) = (0, 0, leases);
    while begun.elapsed() < lease_time {
        let heard = listen(site, Duration::from_secs(1));
        renewals += heard.iter().filter(|packet| is_renewal(packet)).count();
        rebinding += heard.iter().filter(|packet| is_rebinding(packet)).count();
        fewest = fewest.min(site.server.leases().len());
    }
    let each = (cpu(&side.daemon)? - cpu_before).div_f64(renewals.max(1) as f64);
    let share = each
        .mul_f64(leases as f64)
        .div_duration_f64(FIVE_MINUTES_T1);
    println!(
        "- ordinary course: {renewals} renewals in {lease_time:?}, {:.2} ms of processor time each, which is {:.1} % \
         of a core for leases of five minutes; {rebinding} late; {} lost",
        each.as_secs_f64() * 1000.0,
        share * 100.0,
        leases - fewest,
    );
    Ok(())
}

/// The server is silent for two lease times.
fn outage(site: &Site, side: &Side, leases: usize, lease_time: Duration) -> Result {
    let away = lease_time * 2;
    for kind in [MessageType::Discover, MessageType::Request] {
        site.server.when(kind).then(Reaction::silence());
    }
    let (begun, cpu_before) = (Instant::now(), cpu(&side.daemon)?);
    let mut asked = 0;
    while begun.elapsed() < away {
        asked += listen(site, Duration::from_secs(1)).len();
    }
    let share = (cpu(&side.daemon)? - cpu_before).div_duration_f64(begun.elapsed());
    site.server.behave();
    let back = Instant::now();
    let mut served = 0;
    while served < leases && back.elapsed() < away * 2 {
        listen(site, INTERVAL);
        served = site.server.leases().len();
    }
    println!(
        "- outage: the server is silent for {away:?}, and hears {asked} messages, at {:.1} % of a core; {served} served \
         again within {:.1} s, {:.2} times the outage",
        share * 100.0,
        back.elapsed().as_secs_f64(),
        back.elapsed().div_duration_f64(away),
    );
    Ok(())
}

/// What the server hears in this time.
fn listen(site: &Site, time: Duration) -> Vec<Packet> {
    thread::sleep(time);
    site.server.take_received()
}

/// Whether this asks a server to extend a lease.
fn is_renewal(packet: &Packet) -> bool {
    let is_bound = |packet: &Packet| !packet.source.ip().is_unspecified();
    packet.kind() == Some(MessageType::Request) && is_bound(packet)
}

/// Whether this asks any server to extend a lease, because its own has not answered in time.
fn is_rebinding(packet: &Packet) -> bool {
    is_renewal(packet) && packet.destination.ip().is_broadcast()
}
