//! Memory of the daemon for each lease that it has read from disk: after a start there is nothing in
//! its heap that another order of events would have left.

use lab::anyhow::Context;
use lab::{Result, World};

use crate::budget::Budget;
use crate::crowd::Crowd;
use crate::programs;
use crate::side::Side;
use crate::site::Site;
use crate::usage::Usage;

/// The numbers of leases that are compared: the heap grows by pages.
const LEASES: [usize; 2] = [200, 2200];

pub(crate) fn measure(world: &World, site: &Site) -> Result<Budget> {
    let [(_, macvlan), _] = programs();
    let plugins = macvlan.parent().context("a program is in a directory")?;
    let host = &site.lan.host;
    let mut side = Side::start(world, host, "memory", plugins)?;
    let mut crowd = Crowd::default();
    let mut memory = [0; 2];
    let mut before = 0;
    for (place, leases) in LEASES.into_iter().enumerate() {
        crowd.grow(site, leases)?;
        side.add(&crowd.members(before..leases)?)?;
        site.server.take_received();
        side.restart(world, host)?;
        memory[place] = Usage::at_rest(&side.daemon)?.memory;
        before = leases;
    }
    let [few, many] = memory.map(|kibibytes| kibibytes * 1024);
    let [least, most] = LEASES.map(|leases| leases as u64);
    let per_lease = (many - few) / (most - least);
    let what = "octets of the daemon's memory for each lease".to_owned();
    Ok(Budget::new(per_lease, what))
}
