//! CHECK: does the host reach the container?

use ipnet::IpNet;
use linknet::{Link, Netlink, Result};

use super::route::HostRoute;
use super::shim;
use super::tag::AttachmentTag;

/// The first reason why the host does not reach these addresses of a container's interface: the
/// shim must exist and be up, with a route through it to each of them. `host` is a socket in the
/// parent's namespace.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn difference(
    host: &Netlink,
    interface: &Link,
    tag: AttachmentTag,
    addresses: &[IpNet],
) -> Result<Option<String>> {
    let parent = match interface.parent {
        Some(index) => host.link_by_index(index)?,
        None => None,
    };
    let shim = match parent {
        Some(parent) => shim::find(host, &parent)?,
        None => None,
    };
    let Some(shim) = shim else {
        return Ok(Some("the host's own macvlan is missing".to_owned()));
    };
    if !shim.up {
        return Ok(Some(format!("the host's {} is down", shim.name)));
    }
    let routes = HostRoute::all(host)?;
    let is_missing = |address: &&IpNet| {
        !routes.contains(&HostRoute {
            tag,
            to: address.addr(),
            index: shim.index,
        })
    };
    Ok(addresses.iter().find(is_missing).map(|missing| {
        format!(
            "the host's route to {} through {} is missing",
            missing.addr(),
            shim.name
        )
    }))
}
