//! STATUS: could an ADD succeed now?

use attachment::KernelError;
use cni::delegate::Ipam;
use cni::{Error, Request, code};
use linknet::Netlink;

use crate::add::INSTALL_DRIVER;
use crate::config::Config;
use crate::parent::{self, INSTALL_VLAN_DRIVER, Parent};

/// The kernel must have macvlans, the parent must exist and be suitable, and IPAM must be ready. If
/// addresses are leased, the parent must be up. What is wrong with IPAM's configuration is reported
/// before what is wrong with the host.
///
/// # Errors
/// 7 for the configuration; 50; 51 if the parent is down, which affects existing containers too.
pub(crate) fn status(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let ipam = Ipam::find(request)?;
    let host = check_host(request, &config);
    let ipam = ipam.map_or(Ok(()), |ipam| ipam.status());
    match ipam {
        Err(error) if error.code == code::INVALID_NETWORK_CONFIG => Err(error),
        ipam => host.and(ipam),
    }
}

fn check_host(request: &Request, config: &Config) -> Result<(), Error> {
    let outside = Netlink::open().or_kernel_error().map_err(unavailable)?;
    if !outside
        .has_macvlan()
        .or_kernel_error()
        .map_err(unavailable)?
    {
        return Err(no_driver(
            "this kernel has no macvlan driver",
            INSTALL_DRIVER,
        ));
    }
    // STATUS is about no container, so a parent in one cannot be looked for.
    if config.link_in_container {
        return Ok(());
    }
    let leases = request.config.ipam_type() == Some("dhcp");
    check_parent(&outside, config, leases)
}

fn check_parent(outside: &Netlink, config: &Config, leases: bool) -> Result<(), Error> {
    let parent = parent::find(outside, config).map_err(unavailable)?;
    let base = parent.base();
    parent::ensure_suitable(base, config).map_err(unavailable)?;
    if matches!(parent, Parent::Vlan(_)) {
        let has_vlan = outside.has_vlan().or_kernel_error();
        if !has_vlan.map_err(unavailable)? {
            return Err(no_driver("this kernel has no VLANs", INSTALL_VLAN_DRIVER));
        }
    }
    if !base.up {
        let what = format!("{} is down", base.name);
        if leases {
            return Err(Error::new(code::LIMITED_CONNECTIVITY, what)
                .details(format!("ip link set {} up", base.name)));
        }
        log::warn!("{what}");
    }
    Ok(())
}

fn no_driver(what: &str, advice: &str) -> Error {
    Error::new(code::PLUGIN_NOT_AVAILABLE, what).details(advice)
}

fn unavailable(error: Error) -> Error {
    Error {
        code: code::PLUGIN_NOT_AVAILABLE,
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_missing_the_plugin_is_not_available() {
        let missing = Error::new(code::INVALID_NETWORK_CONFIG, "there is no eth1").details("lo");
        let error = unavailable(missing.clone());
        assert_eq!(error.code, code::PLUGIN_NOT_AVAILABLE);
        assert_eq!((error.msg, error.details), (missing.msg, missing.details));
        assert_eq!(
            no_driver("none", "load it").code,
            code::PLUGIN_NOT_AVAILABLE
        );
    }
}
