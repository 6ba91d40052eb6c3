//! The container's interface follows its lease: a renewal updates its addresses and routes, and the
//! loss of the lease removes them.

mod address;
mod clues;
mod guard;
mod health;
mod mtu;
mod result;

use attachment::{Changes, OwnerMark, Plan};
use cni::Attachment;
use dhcp4::{Instant, Lease};
use linknet::{Link, Netlink, Netns, Protocol, Route};

use crate::protocol::LeaseParams;
use crate::state::Mtu;

pub(super) use address::{take_off, valid_lifetime};
pub(super) use guard::guard;
pub(super) use health::health;
pub(super) use result::result;

/// What the interface was last brought to, as far as that does not follow from its lease.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The plan in force, if it is not that of the lease: the kernel refused something.
    plan: Option<Box<Plan>>,
    /// The MTU; unknown for a lease of an earlier release's daemon.
    mtu: Option<Mtu>,
    /// Whether the interface has been seen with a default route.
    had_default: bool,
}

impl Applied {
    /// What is known of an interface with this MTU.
    pub(super) fn with_mtu(mtu: Option<Mtu>) -> Applied {
        Applied {
            mtu,
            ..Applied::default()
        }
    }

    /// The interface's MTU, for its record.
    pub(super) fn mtu(&self) -> Option<Mtu> {
        self.mtu
    }
}

/// How many addresses, routes or rules of a container are read at most: root in it can add millions,
/// and meanwhile the daemon does nothing else. This many take some ten milliseconds and a megabyte,
/// and are more than any lease has.
const MAX_LISTED: usize = 4096;

/// The leases before and after a change. They are the same if the interface is only compared with
/// its lease, to restore what it has lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseChange<'a> {
    pub(super) old: Option<&'a Lease>,
    pub(super) new: Option<&'a Lease>,
}

/// Brings the interface from the `old` lease to the `new` one. If the lease ends while no daemon
/// runs, the kernel removes the address by itself.
///
/// Returns the changes, and the kernel's first refusal. After a refusal the other changes are still
/// made, and the next call tries the refused ones again.
pub(super) fn apply(
    netns: &Netns,
    ifindex: u32,
    attachment: &Attachment,
    params: &LeaseParams,
    applied: &mut Applied,
    leases: LeaseChange<'_>,
    now: Instant,
) -> (Changes, linknet::Result<()>) {
    let LeaseChange { old, new } = leases;
    let plan_for = |lease: Option<&Lease>| {
        lease.map_or_else(Plan::default, |lease| plan(lease, params, ifindex, now))
    };
    let in_force = applied.plan.take().map(|plan| *plan);
    let mut in_force = in_force.unwrap_or_else(|| plan_for(old));
    let netlink = match Netlink::open_in(netns) {
        Ok(netlink) => netlink.limited(MAX_LISTED),
        Err(error) => {
            applied.plan = Some(Box::new(in_force));
            return (Changes::default(), Err(error));
        }
    };
    // Before a new address is there: the kernel announces it.
    let address = new.map(|lease| lease.address);
    let guarded = guard(netns, ifindex, attachment, &params.guard, address);
    let mtu = update_mtu(&netlink, ifindex, params, applied, leases);
    let mut wanted = plan_for(new);
    if !params.configure {
        leave_default_to_caller(&mut in_force, &mut wanted, &netlink, ifindex, applied);
    }
    let mut transition = in_force.transition(&wanted, &netlink, ifindex);
    if let Some(error) = &transition.not_compared {
        tracing::warn!(%attachment, "part of the interface is not compared with its lease: cannot {error}");
    }
    if transition.outcome.is_err() {
        applied.plan = Some(Box::new(transition.in_force));
    }
    if let Ok(Some(mtu)) = mtu {
        transition.changes.prepend(format!("MTU {mtu}"));
    }
    if let Ok(true) = guarded {
        transition.changes.prepend("guard".to_owned());
    }
    let announced = match transition.has_new_address && params.announce {
        true => linknet::announce(netns, &netlink, ifindex),
        false => Ok(()),
    };
    let outcome = mtu.map(drop).and(guarded.map(drop)).and(transition.outcome);
    let outcome = outcome.and(announced);
    (transition.changes, outcome)
}

/// Takes the default route out of the plan for an interface that another plugin has made, and given
/// none: the container's default route is then that of another interface.
///
/// If its routes cannot be listed, a default route is neither set nor removed.
fn leave_default_to_caller(
    in_force: &mut Plan,
    wanted: &mut Plan,
    netlink: &Netlink,
    ifindex: u32,
    applied: &mut Applied,
) {
    let is_anothers = || {
        let link = netlink.link_by_index(ifindex).ok().flatten();
        link.is_some_and(|link| !OwnerMark::is_on(&link))
    };
    let is_default = |route: &Route| route.dst.prefix_len() == 0;
    if wanted.routes.iter().any(is_default) && !applied.had_default && is_anothers() {
        let own = netlink.routes(Some(ifindex));
        applied.had_default = (own.as_ref()).is_ok_and(|own| own.iter().any(is_default));
        if !applied.had_default {
            wanted.routes.retain(|route| !is_default(route));
        }
        if own.is_err() {
            in_force.routes.retain(|route| !is_default(route));
        }
    }
}

/// Sets the MTU of the interface to that of its first lease, if that is allowed.
///
/// # Errors
/// Whatever the kernel refused.
pub(super) fn adopt_mtu(
    netns: &Netns,
    link: &Link,
    params: &LeaseParams,
    applied: &mut Applied,
    lease: &Lease,
) -> linknet::Result<()> {
    let own = link.mtu;
    let mtu = applied.mtu.insert(Mtu { own, set: None });
    match mtu::of_lease(params, lease) {
        Some(_) => {
            let netlink = Netlink::open_in(netns)?;
            let set_mtu = |mtu| netlink.set_mtu(link.index, mtu);
            mtu::update(set_mtu, link, params, mtu, lease).map(drop)
        }
        None => Ok(()),
    }
}

/// Sets the MTU of the interface to that of its new lease, and returns it if it has changed.
fn update_mtu(
    netlink: &Netlink,
    ifindex: u32,
    params: &LeaseParams,
    applied: &mut Applied,
    LeaseChange { old, new }: LeaseChange<'_>,
) -> linknet::Result<Option<u32>> {
    let Some(new) = new else {
        return Ok(None);
    };
    let Some(link) = netlink.link_by_index(ifindex)? else {
        return Ok(None);
    };
    let mtu = applied.mtu.get_or_insert_with(|| Mtu {
        own: link.mtu,
        set: old.and_then(|old| mtu::of_lease(params, old)),
    });
    let set_mtu = |mtu| netlink.set_mtu(link.index, mtu);
    mtu::update(set_mtu, &link, params, mtu, new)
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
