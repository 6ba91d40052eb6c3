//! CHECK: is the interface as ADD reported it, and does IPAM agree?
//!
//! Later plugins of the chain may have changed the interface (spec §4, "CHECK"), and report that in
//! `prevResult`: MAC, MTU and addresses are compared with that, not with the configuration. They
//! may have moved routes to another table or interface without reporting it.

use attachment::{KernelError, Plan, codes, differs, is_macvlan, keep_routes};
use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, IpConfig, Request, code};
use ipnet::IpNet;
use linknet::{Link, Netlink};

use crate::config::Config;
use crate::netns::{self, Namespaces};
use crate::{guard, host_access, parent};

/// Compares the container with `prevResult` and the configuration, then asks IPAM.
///
/// # Errors
/// 110 with the first difference.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let attachment = request.attachment()?;
    let previous = request.config.prev_result.as_ref().ok_or_else(|| {
        let what = "invalid network configuration: prevResult is missing";
        Error::new(code::INVALID_NETWORK_CONFIG, what)
    })?;
    let namespaces = Namespaces::open(request, config.link_in_container).map_err(needing_del)?;
    let (inside, outside) = (&namespaces.inside, namespaces.outside());
    let sandbox = netns::path(request).display().to_string();
    let (position, reported) = reported_interface(previous, attachment.ifname(), &sandbox)?;
    let Some(link) = inside.link(attachment.ifname()).or_kernel_error()? else {
        let what = "it does not exist in the container";
        return Err(differs(attachment.ifname(), what));
    };
    let leases = request.config.ipam_type() == Some("dhcp");
    // Where the configuration names no MTU, the interface takes that of its lease, and a renewal
    // may change it.
    let follows_lease = config.mtu.is_none() && leases;
    let reported = Interface {
        mtu: reported.mtu.filter(|_| !follows_lease),
        ..reported.clone()
    };
    let parent = link.parent.map(|index| outside.link_by_index(index));
    let parent = parent.transpose().or_kernel_error()?.flatten();
    compare_link(&link, &reported, &config, parent.as_ref())?;
    check_parent(outside, &link, parent, &config, leases)?;
    let addresses = addresses_of(previous, position);
    let plan = Plan::of_reported(previous, &addresses, link.index, config.source_routing);
    if let Some(difference) = plan.difference(inside, &link)? {
        return Err(differs(&link.name, difference));
    }
    if let Some(difference) = keep_routes::difference(inside, &link, &config.keep_routes)? {
        return Err(differs(&link.name, difference));
    }
    guard::check(
        &config.guard,
        attachment,
        &namespaces.container,
        &link,
        &addresses,
    )?;
    host_access::check(&config, attachment, outside, &link, &addresses)?;
    Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.check())
}

/// The error as it is for CHECK. Code 3 would tell the runtime that no DEL is needed, and IPAM may
/// still have an address for the container.
fn needing_del(error: Error) -> Error {
    match error.code {
        code::UNKNOWN_CONTAINER => Error {
            code: codes::DIFFERS,
            ..error
        },
        _ => error,
    }
}

/// The entry of `prevResult` for our interface, and its position.
fn reported_interface<'a>(
    previous: &'a CniResult,
    ifname: &str,
    sandbox: &str,
) -> Result<(usize, &'a Interface), Error> {
    let mut all = previous.interfaces.iter().enumerate();
    all.find(|(_, interface)| interface.name == ifname && interface.sandbox == sandbox)
        .ok_or_else(|| differs(ifname, format!("prevResult does not list it in {sandbox}")))
}

fn compare_link(
    link: &Link,
    reported: &Interface,
    config: &Config,
    parent: Option<&Link>,
) -> Result<(), Error> {
    let differs = |difference: String| Err(differs(&link.name, difference));
    let Some(macvlan) = link.macvlan.as_ref().filter(|_| is_macvlan(link)) else {
        let kind = link.kind.as_deref().unwrap_or("physical device");
        return differs(format!("it is a {kind}, not a macvlan"));
    };
    if macvlan.mode != Some(config.mode) {
        let mode = macvlan.mode.map(|mode| mode.to_string());
        let mode = mode.as_deref().unwrap_or("unknown");
        return differs(format!("its mode is {mode}, not {}", config.mode));
    }
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !reported.mac.is_empty() && !reported.mac.eq_ignore_ascii_case(&mac) {
        return differs(format!("its MAC is {mac}, not {}", reported.mac));
    }
    // Where no MTU is configured, the parent's is meant, and a parent that shrinks shrinks its
    // macvlans too.
    let is_parents = config.mtu.is_none() && parent.is_some_and(|parent| parent.mtu == link.mtu);
    let wanted = reported.mtu.or(config.mtu).filter(|_| !is_parents);
    if let Some(mtu) = wanted.filter(|mtu| *mtu != link.mtu) {
        return differs(format!("its MTU is {}, not {mtu}", link.mtu));
    }
    if !link.up {
        return differs("it is down".to_owned());
    }
    Ok(())
}

/// The parent must be the configuration's, and up if the address is leased: ADD demands no more.
fn check_parent(
    outside: &Netlink,
    link: &Link,
    parent: Option<Link>,
    config: &Config,
    leases: bool,
) -> Result<(), Error> {
    let differs = |difference: &str| Err(differs(&link.name, difference));
    let Some(index) = link.parent else {
        return differs("it has no parent");
    };
    let Some(parent) = parent else {
        let what = format!("its parent (index {index}) is in another network namespace");
        return differs(&what);
    };
    if !parent::matches_config(outside, config, &parent)? {
        let master = config.master.as_ref().map(ToString::to_string);
        let vlan = config.vlan.map(|id| format!("VLAN {id}"));
        let wanted: Vec<String> = vlan.into_iter().chain(master).collect();
        let what = format!("its parent is {}, not {}", parent.name, wanted.join(" of "));
        return differs(&what);
    }
    if !parent.up {
        let what = format!("its parent {} is down", parent.name);
        if leases {
            return differs(&what);
        }
        log::warn!("{}: {what}", link.name);
    }
    Ok(())
}

/// The addresses of our interface, which is at `position` in the result. An address that names no
/// interface is ours if there is no other.
fn addresses_of(previous: &CniResult, position: usize) -> Vec<IpNet> {
    let is_ours = |ip: &&IpConfig| match ip.interface {
        Some(interface) => interface == position,
        None => previous.interfaces.len() == 1,
    };
    let ours = previous.ips.iter().filter(is_ours);
    ours.map(|ip| ip.address).collect()
}

#[cfg(test)]
mod tests {
    use linknet::{Macvlan, MacvlanMode};

    use super::*;
    use crate::testing::{device, macvlan};

    #[test]
    fn the_first_difference_is_named() {
        let link = macvlan("eth0");
        let expected = Interface {
            name: "eth0".to_owned(),
            mac: "02:00:00:00:00:07".to_owned(),
            mtu: Some(1500),
            ..Interface::default()
        };
        let config = Config::default();
        assert_eq!(compare_link(&link, &expected, &config, None), Ok(()));
        // A configured MTU counts where the result has none (before 1.1.0), and the result's where
        // a later plugin has changed it.
        let shy = Interface {
            mtu: None,
            ..expected.clone()
        };
        let smaller = Config {
            mtu: Some(1400),
            ..Config::default()
        };
        assert_eq!(compare_link(&link, &expected, &smaller, None), Ok(()));
        let private = link.macvlan.clone().map(|it| Macvlan {
            mode: Some(MacvlanMode::Private),
            ..it
        });
        for (link, expected, config, word) in [
            (device("eth0"), &expected, &config, "physical device"),
            (
                Link {
                    kind: Some("veth".to_owned()),
                    ..device("eth0")
                },
                &expected,
                &config,
                "it is a veth",
            ),
            (
                Link {
                    macvlan: private,
                    ..link.clone()
                },
                &expected,
                &config,
                "mode is private, not bridge",
            ),
            (
                Link {
                    mac: Some(crate::testing::MAC),
                    ..link.clone()
                },
                &expected,
                &config,
                "MAC is 52:54",
            ),
            (
                Link {
                    mtu: 1300,
                    ..link.clone()
                },
                &expected,
                &config,
                "MTU is 1300, not 1500",
            ),
            (link.clone(), &shy, &smaller, "MTU is 1500, not 1400"),
            (
                Link {
                    up: false,
                    ..link.clone()
                },
                &expected,
                &config,
                "down",
            ),
        ] {
            let error = compare_link(&link, expected, config, None).unwrap_err();
            assert!(
                error.code == codes::DIFFERS && error.msg.contains(word),
                "{word}: {error}"
            );
        }
    }

    #[test]
    fn the_parents_mtu_is_a_difference_only_where_another_is_configured() {
        let shrunk = Link {
            mtu: 1300,
            ..macvlan("eth0")
        };
        let expected = Interface {
            mtu: Some(1500),
            ..Interface::default()
        };
        let parent = |mtu| Link {
            mtu,
            ..device("eth1")
        };
        let compare =
            |config: &Config, parent: &Link| compare_link(&shrunk, &expected, config, Some(parent));
        assert_eq!(compare(&Config::default(), &parent(1300)), Ok(()));
        let grown_again = compare(&Config::default(), &parent(1500)).unwrap_err();
        assert!(
            grown_again.msg.contains("MTU is 1300, not 1500"),
            "{grown_again}"
        );
        let configured = Config {
            mtu: Some(1500),
            ..Config::default()
        };
        assert!(compare(&configured, &parent(1300)).is_err());
    }
}
