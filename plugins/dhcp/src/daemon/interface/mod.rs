//! The container's interface follows its lease: a renewal updates its addresses and routes, and the
//! loss of the lease removes them.

mod health;
mod mtu;
mod result;

use attachment::{Changes, Plan};
use dhcp4::{Instant, Lease};
use linknet::{Netlink, Netns, Protocol};

use crate::protocol::LeaseParams;

pub(super) use health::health;
pub(super) use mtu::adopt_mtu;
pub(super) use result::result;

/// Changes the interface `ifindex` from the `old` lease to the `new` one. If the lease ends while
/// no daemon runs, the kernel removes the address by itself.
///
/// Returns the changes, and the kernel's first refusal. After a refusal the other changes are still
/// made.
pub(super) fn apply(
    netns: &Netns,
    ifindex: u32,
    params: &LeaseParams,
    old: Option<&Lease>,
    new: Option<&Lease>,
    now: Instant,
) -> (Changes, linknet::Result<()>) {
    let netlink = match Netlink::open_in(netns) {
        Ok(netlink) => netlink,
        Err(error) => return (Changes::default(), Err(error)),
    };
    let mtu = match new {
        Some(lease) => mtu::update(&netlink, ifindex, params, lease),
        None => Ok(None),
    };
    let plan_for = |lease: Option<&Lease>| {
        lease.map_or_else(Plan::default, |lease| plan(lease, params, ifindex, now))
    };
    let (mut changes, transition) = plan_for(old).transition(&plan_for(new), &netlink, ifindex);
    if let Ok(Some(mtu)) = mtu {
        changes.prepend(format!("MTU {mtu}"));
    }
    let is_new_address = new.is_some() && new.map(Lease::net) != old.map(Lease::net);
    let announced = match is_new_address && params.announce {
        true => linknet::announce(netns, ifindex),
        false => Ok(()),
    };
    (changes, mtu.map(drop).and(transition).and(announced))
}

/// The addresses, routes and rules that follow from a lease.
fn plan(lease: &Lease, params: &LeaseParams, ifindex: u32, now: Instant) -> Plan {
    let mut plan = Plan::new(&result(lease, params, now), ifindex, params.source_routing);
    for address in &mut plan.addresses {
        address.protocol = Some(Protocol::DHCP);
        address.broadcast = lease.options.broadcast.or(address.broadcast);
    }
    plan
}
