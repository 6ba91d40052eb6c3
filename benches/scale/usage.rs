//! What a process costs.

use std::fs;
use std::time::{Duration, Instant};

use lab::anyhow::Context;
use lab::{Process, Result, until};
use nix::unistd::{SysconfVar, sysconf};

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Its share of the memory that it has mapped (proportional set size), in KiB.
    pub(crate) memory: u64,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

impl Usage {
    /// What the process holds now.
    pub(crate) fn of(process: &Process) -> Result<Usage> {
        let directory = format!("/proc/{}", process.pid());
        let count = |what: &str| Ok::<_, std::io::Error>(fs::read_dir(what)?.count());
        let rollup = fs::read_to_string(format!("{directory}/smaps_rollup"))?;
        let memory = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let memory = memory.and_then(|memory| memory.split_whitespace().next());
        Ok(Usage {
            memory: memory.context("no Pss")?.parse()?,
            threads: count(&format!("{directory}/task"))?,
            descriptors: count(&format!("{directory}/fd"))?,
        })
    }

    /// What the process holds once it does nothing any more.
    pub(crate) fn at_rest(process: &Process) -> Result<Usage> {
        /// Longer than the daemon's threads wait for more work.
        const QUIET: Duration = Duration::from_secs(11);
        let mut last = (cpu(process)?, Instant::now());
        until("the daemon does nothing", Duration::from_secs(120), || {
            let now = cpu(process).unwrap_or_default();
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > QUIET
        })?;
        Usage::of(process)
    }
}

/// The processor time of a process and of its threads, those that have ended included.
pub(crate) fn cpu(process: &Process) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
