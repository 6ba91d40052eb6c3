//! STATUS: could an ADD succeed now?

use cni::delegate::Ipam;
use cni::{Error, Request, code};
use linknet::Netlink;

use crate::config::Config;
use crate::make::asking;
use crate::parent::Parent;
use crate::{diagnosis, parent};

/// The kernel must have macvlans, the parent must be there, fit, and be up, and IPAM must be ready.
///
/// # Errors
/// 50; 51 when the parent is down, which containers that exist suffer from too.
pub(crate) fn status(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let ipam = Ipam::find(request)?;
    let outside = Netlink::open().map_err(|error| unavailable(asking(&error)))?;
    if !outside
        .has_macvlan()
        .map_err(|error| unavailable(asking(&error)))?
    {
        let what = "this kernel has no macvlan driver";
        return Err(Error::new(code::PLUGIN_NOT_AVAILABLE, what).details(diagnosis::DRIVER));
    }
    // A parent in the container cannot be looked for: STATUS is of no container.
    if !config.link_in_container {
        let parent = parent::find(&outside, &config).map_err(unavailable)?;
        let device = parent.device();
        diagnosis::fits(device, &config).map_err(unavailable)?;
        if matches!(parent, Parent::Vlan(_))
            && !outside
                .has_vlan()
                .map_err(|error| unavailable(asking(&error)))?
        {
            return Err(
                Error::new(code::PLUGIN_NOT_AVAILABLE, "this kernel has no VLANs")
                    .details(parent::VLAN_DRIVER),
            );
        }
        if !device.up {
            let what = format!("{} is down", device.name);
            return Err(Error::new(code::LIMITED_CONNECTIVITY, what)
                .details(format!("ip link set {} up", device.name)));
        }
    }
    ipam.map_or(Ok(()), |ipam| ipam.status())
}

fn unavailable(error: Error) -> Error {
    Error {
        code: code::PLUGIN_NOT_AVAILABLE,
        ..error
    }
}
