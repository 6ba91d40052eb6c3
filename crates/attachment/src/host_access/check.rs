//! CHECK: does the host reach the container?

use ipnet::IpNet;
use linknet::{Link, Netlink, Result};

use super::admission::HostNetwork;
use super::key::HostAccessKey;
use super::route::HostRoute;
use super::shim;
use super::tag::AttachmentTag;

/// The first reason why the host does not reach these addresses of a container's interface, and what
/// to do about it: the shim must exist and be up, with a route through it to each of them. `host` is
/// a socket in the parent's namespace.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn difference(
    host: &Netlink,
    interface: &Link,
    tag: AttachmentTag,
    addresses: &[IpNet],
    key: &HostAccessKey,
) -> Result<Option<String>> {
    let parent = match interface.parent {
        Some(index) => host.link_by_index(index)?,
        None => None,
    };
    let Some(parent) = parent else {
        return Ok(Some(
            "its parent is gone, and its macvlans with it".to_owned(),
        ));
    };
    let shim = shim::find(host, &parent)?;
    let what = match &shim {
        Some(shim) if !shim.up => {
            let name = &shim.name;
            return Ok(Some(format!(
                "the host's {name} is down: GC sets it up, and restores its routes"
            )));
        }
        Some(shim) => {
            let routes = HostRoute::all(host)?;
            let is_missing = |address: &&IpNet| {
                !routes.contains(&HostRoute {
                    tag,
                    to: address.addr(),
                    index: shim.index,
                })
            };
            let Some(missing) = addresses.iter().find(is_missing) else {
                return Ok(None);
            };
            let to = missing.addr();
            format!("the host's route to {to} through {} is missing", shim.name)
        }
        None => format!(
            "the host's own macvlan on {} is missing, with its routes to containers",
            parent.name
        ),
    };
    // GC and the daemon remove the route to an address that the host must not be led to any more.
    let network = HostNetwork::read(host)?;
    let admitted = addresses
        .iter()
        .try_for_each(|address| network.admit(&parent, tag, address.addr(), key.listed()));
    Ok(Some(match admitted {
        Ok(()) => format!("{what}: GC restores it, and so does a renewal by the dhcp daemon"),
        Err(refusal) => format!("{what}, because {refusal} ({})", refusal.advice()),
    }))
}
