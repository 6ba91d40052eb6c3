//! DEL: gives the addresses back and removes the interface, whatever of the two is still there.

use cni::delegate::Ipam;
use cni::{Error, Request, code};
use linknet::Netlink;

use crate::container;

/// Detaches the container. The interface goes even when IPAM fails; IPAM goes first, because a DHCP RELEASE is sent
/// from the interface.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let released = Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.del()));
    remove(request)?;
    released
}

/// Removes our interface from the container, if container and interface are there.
fn remove(request: &Request) -> Result<(), Error> {
    let Some(netns) = container::open_if_there(request)? else { return Ok(()) };
    let failed = |error: linknet::Error| {
        Error::new(code::IO_FAILURE, format!("removing {} failed: {error}", request.ifname))
    };
    let inside = Netlink::open_in(&netns).map_err(failed)?;
    let Some(link) = inside.link(&request.ifname).map_err(failed)? else { return Ok(()) };
    if link.kind.as_deref() != Some("macvlan") {
        let kind = link.kind.as_deref().unwrap_or("physical device");
        eprintln!("macvlan: {} is a {kind} and not ours: left alone", link.name);
        return Ok(());
    }
    match inside.delete_link(link.index) {
        Err(error) if !error.is_absent() => Err(failed(error)),
        _ => Ok(()),
    }
}
