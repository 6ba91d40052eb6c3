//! CHECK: does the host reach the container?

use cni::{Error, Request};
use ipnet::IpNet;
use linknet::{HostRoute, Link, Netlink, Shims};

use super::tag;
use crate::check::differs;
use crate::config::Config;
use crate::make::asking;

/// The host's macvlan must be there and up, and a route through it to each address.
///
/// # Errors
/// 110 with the first difference.
pub(crate) fn check(
    request: &Request,
    config: &Config,
    outside: &Netlink,
    link: &Link,
    addresses: &[IpNet],
) -> Result<(), Error> {
    if !config.host_access {
        return Ok(());
    }
    let differs = |how: String| Err(differs(&link.name, format!("hostAccess: {how}")));
    let parent = link
        .parent
        .map_or(Ok(None), |index| outside.link_by_index(index));
    let shim = match parent.map_err(|error| asking(&error))? {
        Some(parent) => Shims::find(outside, &parent).map_err(|error| asking(&error))?,
        None => None,
    };
    let Some(shim) = shim else {
        return differs("the host's own macvlan is missing".to_owned());
    };
    if !shim.up {
        return differs(format!("{} of the host is down", shim.name));
    }
    let tag = tag(request);
    let there = HostRoute::all(outside).map_err(|error| asking(&error))?;
    for address in addresses.iter().map(IpNet::addr) {
        if !there.contains(&HostRoute {
            tag,
            to: address,
            index: shim.index,
        }) {
            return differs(format!(
                "the host's route to {address} through {} is missing",
                shim.name
            ));
        }
    }
    Ok(())
}
