//! What a daemon costs with more and more leases, while none is due for renewal.

use std::path::Path;
use std::time::Duration;

use lab::{Node, Result, World};

use crate::contention;
use crate::crowd::Crowd;
use crate::side::Side;
use crate::site::Site;
use crate::times::{milliseconds, percentile};
use crate::usage::Usage;

/// What a daemon costs with so many leases.
pub(crate) struct Point {
    pub(crate) leases: usize,
    pub(crate) usage: Usage,
}

/// Measures our daemon with each of these numbers of leases, and prints a line for each. Each time,
/// the ADD of one more container is timed `rounds` times, and as often with a daemon that has no
/// lease.
pub(crate) fn ours(
    (world, site): (&World, &Site),
    crowd: &mut Crowd,
    plugins: &Path,
    numbers: &[usize],
    rounds: usize,
) -> Result<(Side, Vec<Point>)> {
    let host = &site.lan.host;
    let full = Side::start(world, host, "full", plugins)?;
    let empty = Side::start(world, host, "empty", plugins)?;
    let visitor = site.lan.container("visitor")?;
    println!(
        "{:>7}  {:>8}  {:>9}  {:>7}  {:>11}  {:>13}  {:>9}  {:>5}",
        "leases",
        "PSS KiB",
        "per lease",
        "threads",
        "descriptors",
        "ADD, p50 in ms",
        "when empty",
        "ratio"
    );
    let mut points: Vec<Point> = Vec::new();
    for &leases in [0].iter().chain(numbers) {
        let before = points.last().map_or(0, |point| point.leases);
        crowd.grow(site, leases)?;
        full.add(&crowd.members(before..leases)?)?;
        site.server.take_received();
        let usage = Usage::at_rest(&full.daemon)?;
        let [beside, alone] = visits([&full, &empty], host, &visitor, rounds)?;
        println!(
            "{leases:>7}  {:>8}  {:>9}  {:>7}  {:>11}  {:>14.2}  {:>10.2}  {:>5.2}",
            usage.memory,
            per_lease(points.last(), leases, usage),
            usage.threads,
            usage.descriptors,
            milliseconds(beside),
            milliseconds(alone),
            beside.div_duration_f64(alone),
        );
        points.push(Point { leases, usage });
    }
    contention::measure(&full, host, &visitor, rounds)?;
    Ok((full, points))
}

/// Measures the daemon of other plugins with each of these numbers of leases, up to the first that it
/// cannot maintain, and prints a line for each.
pub(crate) fn others(
    (world, site): (&World, &Site),
    crowd: &Crowd,
    plugins: &Path,
    numbers: &[usize],
) -> Result<Vec<Point>> {
    let host = &site.lan.host;
    let side = Side::start(world, host, "others", plugins)?;
    println!("\nThe daemon of {}:", plugins.display());
    println!(
        "{:>7}  {:>8}  {:>9}  {:>7}  {:>11}",
        "leases", "PSS KiB", "per lease", "threads", "descriptors"
    );
    let mut points: Vec<Point> = Vec::new();
    for &leases in [0].iter().chain(numbers) {
        let before = points.last().map_or(0, |point| point.leases);
        if let Err(error) = side.add_by_plugin(host, &crowd.members(before..leases)?) {
            println!("{leases:>7}  {error:#}");
            break;
        }
        site.server.take_received();
        let usage = Usage::at_rest(&side.daemon)?;
        println!(
            "{leases:>7}  {:>8}  {:>9}  {:>7}  {:>11}",
            usage.memory,
            per_lease(points.last(), leases, usage),
            usage.threads,
            usage.descriptors
        );
        points.push(Point { leases, usage });
    }
    Ok(points)
}

/// The memory for each lease since the point before, in KiB.
fn per_lease(before: Option<&Point>, leases: usize, usage: Usage) -> String {
    match before {
        Some(before) if before.leases < leases => {
            let memory = usage.memory as f64 - before.usage.memory as f64;
            format!("{:.2}", memory / (leases - before.leases) as f64)
        }
        _ => String::new(),
    }
}

/// The median of the ADDs of a container with each of two sides, which take turns.
fn visits(
    sides: [&Side; 2],
    host: &Node,
    container: &Node,
    rounds: usize,
) -> Result<[Duration; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    let mut order = [0, 1];
    for _ in 0..rounds {
        for side in order {
            samples[side].push(sides[side].visit(host, container)?);
        }
        order.reverse();
    }
    Ok(samples.map(|samples| percentile(samples, 50)))
}
