//! What one daemon costs with many leases, and whether it is still in time.
//!
//! ```text
//! cargo bench --bench scale
//! cargo bench --bench scale -- --leases 1000,10000 --other /usr/lib/cni --svg benches/scale/plot.svg
//! ```
//!
//! It makes a world of its own (no privileges are needed) with many interfaces in a few network
//! namespaces. First the leases are so long that none is renewed: what does each of them cost, and
//! does an ADD take longer beside them? Then they are short: what do their renewals cost, and is any
//! of them late? It asserts nothing.

mod contention;
mod crowd;
mod growth;
mod plot;
mod renewals;
mod side;
mod site;
mod times;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lab::{Result, World};

use crowd::Crowd;
use side::Side;
use site::Site;
use times::milliseconds;
use usage::Usage;

/// Measures one daemon with many leases.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// How many leases there are, in ascending order
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000])]
    leases: Vec<usize>,
    /// How many of them are renewed; 0 leaves the renewals out [default: the most]
    #[arg(long)]
    renewed: Option<usize>,
    /// For how long those are leased, in seconds [default: 30, or more if there are many of them]
    #[arg(long)]
    lease_time: Option<u64>,
    /// How often an ADD is timed beside each number of leases
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// The directory of our plugins [default: as they are built]
    #[arg(long)]
    plugins: Option<PathBuf>,
    /// The directory of other plugins, whose daemon's memory and threads are measured too
    #[arg(long)]
    other: Option<PathBuf>,
    /// A file for a plot of memory and threads
    #[arg(long)]
    svg: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    lab::exit_code(lab::world::enter().and_then(|world| run(&world, &Options::parse())))
}

fn run(world: &World, options: &Options) -> Result {
    let site = Site::new()?;
    let mut crowd = Crowd::default();
    let plugins = options.plugins.clone().unwrap_or_else(built);
    let (leases, rounds) = (&options.leases, options.rounds);
    let (mut side, ours) = growth::ours((world, &site), &mut crowd, &plugins, leases, rounds)?;
    let most = leases.iter().copied().max().unwrap_or_default();
    let renewed = options.renewed.unwrap_or(most);
    crowd.grow(&site, renewed)?;

    restart(world, &site, &mut side)?;
    release_all(&side, &crowd.members(0..most)?)?;
    if renewed > 0 {
        // Our server and the daemon must have time for all of them.
        let least = (renewed as u64 / 100).max(30);
        let lease_time = Duration::from_secs(options.lease_time.unwrap_or(least));
        let members = crowd.members(0..renewed)?;
        renewals::measure(&site, &side, &members, lease_time)?;
        release_all(&side, &members)?;
    }
    drop(side);
    let others = match &options.other {
        Some(plugins) => growth::others((world, &site), &crowd, plugins, leases)?,
        None => Vec::new(),
    };
    match &options.svg {
        Some(file) => plot::draw(file, &ours, &others),
        None => Ok(()),
    }
}

/// Where cargo has put our plugins.
fn built() -> PathBuf {
    let dhcp = Path::new(env!("CARGO_BIN_EXE_dhcp"));
    dhcp.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Kills the daemon and starts it again: all leases are read from disk.
fn restart(world: &World, site: &Site, side: &mut Side) -> Result {
    let took = side.restart(world, &site.lan.host)?;
    let memory = Usage::at_rest(&side.daemon)?.memory;
    println!(
        "\nstarted again: serves after {:.0} ms, with {memory} KiB",
        milliseconds(took)
    );
    Ok(())
}

/// GC, first of nothing, then of everything.
fn release_all(side: &Side, members: &[crowd::Member]) -> Result {
    // The daemon limits the length of a request, which lists all of them.
    let none = side.gc(members).map_or_else(
        |error| format!("refused ({error:#})"),
        |took| format!("{:.0} ms", milliseconds(took)),
    );
    let all = side.gc(&[])?;
    let usage = Usage::at_rest(&side.daemon)?;
    println!(
        "GC of none of {} leases: {none}; of all: {:.0} ms; then {} KiB, {} threads, {} descriptors",
        members.len(),
        milliseconds(all),
        usage.memory,
        usage.threads,
        usage.descriptors
    );
    Ok(())
}
