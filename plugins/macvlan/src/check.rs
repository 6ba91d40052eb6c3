//! CHECK: is the interface as ADD reported it, and does IPAM agree?
//!
//! Later plugins of the chain may have changed the interface (spec §4, "CHECK"), and report that in
//! `prevResult`: MAC and addresses are compared with that, not with the configuration. What they may
//! change without reporting it, as `tuning` does the MTU and `sbr` the routes, is not compared.

use attachment::{KernelError, Plan, codes, differs, is_macvlan, keep_routes};
use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, IpConfig, Request, code};
use ipnet::IpNet;
use linknet::{Link, Netlink};

use crate::config::Config;
use crate::netns::{self, Namespaces};
use crate::{guard, host_access, parent, refused_routes};

/// Compares the container with `prevResult` and the configuration, then asks IPAM.
///
/// # Errors
/// 110 with the first difference. Its details are what IPAM says, which may be the reason: an
/// address that was lost.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let ask_ipam = || Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.check());
    match compare(request) {
        Ok(()) => ask_ipam(),
        Err(difference) if difference.code == codes::DIFFERS && difference.details.is_empty() => {
            let reason = ask_ipam().err().map(|error| error.to_string());
            Err(difference.details(reason.unwrap_or_default()))
        }
        Err(error) => Err(error),
    }
}

fn compare(request: &Request) -> Result<(), Error> {
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
    compare_link(&link, reported, &config)?;
    check_parent(outside, &link, &config, request.config.ipam_type())?;
    let addresses = addresses_of(previous, position);
    let plan = Plan::of_reported(previous, &addresses, link.index, config.source_routing);
    if let Some(difference) = plan.difference(inside, &link)? {
        return Err(differs(&link.name, difference));
    }
    if let Some(difference) = keep_routes::difference(inside, &link, &config.keep_routes)? {
        return Err(differs(&link.name, difference));
    }
    if let Some(difference) = refused_routes::difference(inside, &config.refused_routes)? {
        return Err(differs(&link.name, difference));
    }
    guard::check(
        &config.guard,
        attachment,
        &namespaces.container,
        &link,
        &addresses,
    )?;
    host_access::check(&config, attachment, outside, &link, &addresses)
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

fn compare_link(link: &Link, reported: &Interface, config: &Config) -> Result<(), Error> {
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
    if !link.up {
        return differs("it is down".to_owned());
    }
    Ok(())
}

/// The parent must be the configuration's, and up if the address is leased: ADD demands no more.
fn check_parent(
    outside: &Netlink,
    link: &Link,
    config: &Config,
    ipam: Option<&str>,
) -> Result<(), Error> {
    let differs = |difference: &str| Err(differs(&link.name, difference));
    let Some(index) = link.parent else {
        return differs("it has no parent");
    };
    let Some(parent) = outside.link_by_index(index).or_kernel_error()? else {
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
        if ipam == Some("dhcp") {
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
            ..Interface::default()
        };
        let config = Config::default();
        assert_eq!(compare_link(&link, &expected, &config), Ok(()));
        let private = link.macvlan.clone().map(|it| Macvlan {
            mode: Some(MacvlanMode::Private),
            ..it
        });
        for (link, word) in [
            (device("eth0"), "physical device"),
            (
                Link {
                    kind: Some("veth".to_owned()),
                    ..device("eth0")
                },
                "it is a veth",
            ),
            (
                Link {
                    macvlan: private,
                    ..link.clone()
                },
                "mode is private, not bridge",
            ),
            (
                Link {
                    mac: Some(crate::testing::MAC),
                    ..link.clone()
                },
                "MAC is 52:54",
            ),
            (
                Link {
                    up: false,
                    ..link.clone()
                },
                "down",
            ),
        ] {
            let error = compare_link(&link, &expected, &config).unwrap_err();
            assert!(
                error.code == codes::DIFFERS && error.msg.contains(word),
                "{word}: {error}"
            );
        }
    }

    #[test]
    fn the_interface_is_found_in_the_result_by_its_name_and_namespace() {
        let listed = |name: &str, sandbox: &str| Interface {
            name: name.to_owned(),
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        };
        let result = CniResult {
            interfaces: vec![
                listed("eth0", ""),
                listed("eth1", "/run/netns/c1"),
                listed("eth0", "/run/netns/c1"),
            ],
            ..CniResult::default()
        };
        let found = |name| reported_interface(&result, name, "/run/netns/c1");
        assert_eq!(found("eth0"), Ok((2, &result.interfaces[2])));
        assert_eq!(found("eth1"), Ok((1, &result.interfaces[1])));
        let missing = found("eth2").expect_err("it is not listed");
        assert_eq!(missing.code, codes::DIFFERS);
    }

    #[test]
    fn a_container_that_is_gone_is_a_difference_because_del_must_still_be_called() {
        let code = |code| needing_del(Error::new(code, "what")).code;
        assert_eq!(code(code::UNKNOWN_CONTAINER), codes::DIFFERS);
        assert_eq!(code(code::INVALID_ENVIRONMENT), code::INVALID_ENVIRONMENT);
    }

    #[test]
    fn an_address_is_the_interfaces_if_it_names_it_or_there_is_no_other_interface() {
        let result = |interfaces: usize, positions: &[Option<usize>]| CniResult {
            interfaces: vec![Interface::default(); interfaces],
            ips: (1..)
                .zip(positions)
                .map(|(host, &interface)| IpConfig {
                    interface,
                    ..IpConfig::new(format!("10.0.0.{host}/24").parse().unwrap())
                })
                .collect(),
            ..CniResult::default()
        };
        let hosts = |result: &CniResult, position| -> Vec<String> {
            let ours = addresses_of(result, position);
            ours.iter().map(|net| net.addr().to_string()).collect()
        };
        let of_two = result(2, &[Some(0), Some(1), None]);
        assert_eq!(hosts(&of_two, 0), ["10.0.0.1"]);
        assert_eq!(hosts(&of_two, 1), ["10.0.0.2"]);
        assert_eq!(hosts(&result(1, &[None]), 0), ["10.0.0.1"]);
    }
}
