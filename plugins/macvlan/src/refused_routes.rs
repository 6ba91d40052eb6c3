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
            Err(error)
                if error.is_exists() && find(&all(inside).or_rejected()?, route).is_some() => {}
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
    if routes.is_empty() {
        return Ok(());
    }
    let all = all(inside)?;
    let found = routes.iter().filter_map(|route| find(&all, route));
    let ours = found.filter(|found| found.protocol == PROTOCOL);
    let removed = ours.map(|ours| or_absent(inside.delete_route(ours)));
    removed.fold(Ok(()), Result::and)
}

/// CHECK: the first of the routes that is missing.
///
/// # Errors
/// 111 if the kernel cannot be asked.
pub(crate) fn difference(inside: &Netlink, routes: &[Route]) -> Result<Option<String>, Error> {
    if routes.is_empty() {
        return Ok(None);
    }
    let all = all(inside).or_kernel_error()?;
    let missing = routes.iter().find(|route| find(&all, route).is_none());
    Ok(missing.map(|Route { kind, dst, .. }| format!("the {kind} route to {dst} is missing")))
}

/// The routes of the container that refuse packets.
fn all(inside: &Netlink) -> linknet::Result<Vec<Route>> {
    let (_, refusing) = inside.routes_and_refused()?;
    Ok(refusing)
}

/// The route as it is in the kernel, which may have given it an interface.
fn find<'a>(all: &'a [Route], route: &Route) -> Option<&'a Route> {
    let mut all = all.iter();
    all.find(|found| found.kind == route.kind && found.competes_with(route))
}
