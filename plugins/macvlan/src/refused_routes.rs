//! `refusedRoutes`: destinations that the container does not reach, whatever its other routes are.
//!
//! Such a route leads through no interface, and so does not disappear with one: DEL removes it. It
//! is recognised by its protocol, and by the configuration, which says what it is.

use attachment::{KernelError, PROTOCOL};
use cni::Error;
use linknet::{Netlink, Route, or_absent};

/// Adds the routes. One that is there already, which a killed ADD has left behind or another network
/// has too, is as good.
///
/// # Errors
/// 7 if the kernel refuses one.
pub(crate) fn add(inside: &Netlink, routes: &[Route]) -> Result<(), Error> {
    for route in routes {
        match inside.add_route(route) {
            Err(error) if error.is_exists() && find(inside, route).or_rejected()?.is_some() => {}
            outcome => outcome.or_rejected()?,
        }
    }
    Ok(())
}

/// Removes the routes, as far as they exist and are ours.
///
/// # Errors
/// The kernel's first refusal. The others are still removed.
pub(crate) fn remove(inside: &Netlink, routes: &[Route]) -> linknet::Result<()> {
    let mut outcome = Ok(());
    for route in routes {
        let removed = find(inside, route).and_then(|found| match found {
            Some(found) if found.protocol == PROTOCOL => or_absent(inside.delete_route(&found)),
            _ => Ok(()),
        });
        outcome = outcome.and(removed);
    }
    outcome
}

/// CHECK: the first of the routes that is missing.
///
/// # Errors
/// 111 if the kernel cannot be asked.
pub(crate) fn difference(inside: &Netlink, routes: &[Route]) -> Result<Option<String>, Error> {
    for route in routes {
        if find(inside, route).or_kernel_error()?.is_none() {
            let Route { kind, dst, .. } = route;
            return Ok(Some(format!("the {kind} route to {dst} is missing")));
        }
    }
    Ok(None)
}

/// The route as it is in the kernel, which may have given it an interface.
fn find(inside: &Netlink, route: &Route) -> linknet::Result<Option<Route>> {
    let (_, refusing) = inside.routes_and_refused()?;
    let is_it = |found: &Route| found.kind == route.kind && found.competes_with(route);
    Ok(refusing.into_iter().find(is_it))
}
