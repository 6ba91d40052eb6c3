//! STATUS: could an ADD succeed now?

use cni::delegate::Ipam;
use cni::{Error, Request, code};
use linknet::Netlink;

use crate::config::Config;
use crate::parent;

/// The parent must be there, and IPAM must be ready.
pub(crate) fn status(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let unavailable = |error: Error| Error { code: code::PLUGIN_NOT_AVAILABLE, ..error };
    if !config.link_in_container {
        let outside =
            Netlink::open().map_err(|error| Error::new(code::PLUGIN_NOT_AVAILABLE, error.to_string()))?;
        parent::find(&outside, config.master.as_ref()).map_err(unavailable)?;
    }
    Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.status())
}
