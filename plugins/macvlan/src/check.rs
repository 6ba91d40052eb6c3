//! CHECK: is the interface as ADD reported it, and does IPAM agree?
//!
//! Later plugins of the chain may have changed what ADD made (spec §4, "CHECK"), and say so in
//! `prevResult`: MAC, MTU and addresses are compared with that, not with the configuration. Routes
//! they may have moved to another table or interface without a word.

use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, IpConfig, Request, code};
use ipnet::IpNet;
use linknet::{Link, Netlink, Route};

use crate::config::Config;
use crate::make::asking;
use crate::mark::is_macvlan;
use crate::{codes, container, host_access, keep_routes, parent, routes, source_routing};

/// Compares what is there with `prevResult` and the configuration, then asks IPAM.
///
/// # Errors
/// 110 with the first difference.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let previous = request.config.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            code::INVALID_NETWORK_CONFIG,
            "invalid network configuration: prevResult is missing",
        )
    })?;
    let netns = container::open(request)?;
    let inside = Netlink::open_in(&netns).map_err(|error| asking(&error))?;
    let (index, expected) = ours(previous, request)?;
    let Some(link) = inside
        .link(&request.ifname)
        .map_err(|error| asking(&error))?
    else {
        return Err(differs(
            &request.ifname,
            "it does not exist in the container",
        ));
    };
    // Where the configuration names no MTU, that of a lease is taken on, and a renewal may change
    // it.
    let mtu_follows_lease = config.mtu.is_none() && request.config.ipam_type() == Some("dhcp");
    let expected = Interface {
        mtu: expected.mtu.filter(|_| !mtu_follows_lease),
        ..expected.clone()
    };
    let elsewhere = match config.link_in_container {
        true => None,
        false => Some(Netlink::open().map_err(|error| asking(&error))?),
    };
    let outside = elsewhere.as_ref().unwrap_or(&inside);
    let parent = link
        .parent
        .map(|index| outside.link_by_index(index))
        .transpose();
    let parent = parent.map_err(|error| asking(&error))?.flatten();
    compare_link(&link, &expected, &config, parent.as_ref())?;
    check_parent(outside, &link, parent, &config)?;
    let addresses = addresses_of(previous, index);
    check_addresses(&inside, &link, &addresses)?;
    check_routes(&inside, &link, previous)?;
    source_routing::check(&inside, &link, &config, &addresses)?;
    keep_routes::check(&inside, &link, &config.keep_routes)?;
    host_access::check(request, &config, outside, &link, &addresses)?;
    Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.check())
}

/// The entry of `prevResult` that is about our interface, and its place.
fn ours<'a>(previous: &'a CniResult, request: &Request) -> Result<(usize, &'a Interface), Error> {
    let sandbox = container::path(request).display().to_string();
    let mut all = previous.interfaces.iter().enumerate();
    all.find(|(_, interface)| interface.name == request.ifname && interface.sandbox == sandbox)
        .ok_or_else(|| {
            differs(
                &request.ifname,
                format!("prevResult does not list it in {sandbox}"),
            )
        })
}

fn compare_link(
    link: &Link,
    expected: &Interface,
    config: &Config,
    parent: Option<&Link>,
) -> Result<(), Error> {
    let Some(macvlan) = link.macvlan.as_ref().filter(|_| is_macvlan(link)) else {
        let kind = link.kind.as_deref().unwrap_or("physical device");
        return Err(differs(
            &link.name,
            format!("it is a {kind}, not a macvlan"),
        ));
    };
    if macvlan.mode != Some(config.mode) {
        let mode = macvlan
            .mode
            .map_or("unknown".to_owned(), |mode| mode.to_string());
        return Err(differs(
            &link.name,
            format!("its mode is {mode}, not {}", config.mode),
        ));
    }
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&mac) {
        return Err(differs(
            &link.name,
            format!("its MAC is {mac}, not {}", expected.mac),
        ));
    }
    // Where none is configured, the parent's is meant; and one that shrinks takes its macvlans with
    // it.
    let is_parents = config.mtu.is_none() && parent.is_some_and(|parent| parent.mtu == link.mtu);
    if let Some(mtu) = expected
        .mtu
        .or(config.mtu)
        .filter(|mtu| *mtu != link.mtu && !is_parents)
    {
        return Err(differs(
            &link.name,
            format!("its MTU is {}, not {mtu}", link.mtu),
        ));
    }
    if !link.up {
        return Err(differs(&link.name, "it is down"));
    }
    Ok(())
}

/// The parent is known by its index in the namespace that it is in, and must be up: "the container
/// is generally unreachable" otherwise.
fn check_parent(
    outside: &Netlink,
    link: &Link,
    parent: Option<Link>,
    config: &Config,
) -> Result<(), Error> {
    let index = link
        .parent
        .ok_or_else(|| differs(&link.name, "it has no parent"))?;
    let Some(parent) = parent else {
        return Err(differs(
            &link.name,
            format!("its parent (number {index}) is in another network namespace"),
        ));
    };
    if !parent::admits(outside, config, &parent)? {
        let wanted = config.master.as_ref().map(ToString::to_string);
        let vlan = config.vlan.map(|id| format!("VLAN {id}"));
        let wanted: Vec<String> = vlan.into_iter().chain(wanted).collect();
        return Err(differs(
            &link.name,
            format!("its parent is {}, not {}", parent.name, wanted.join(" of ")),
        ));
    }
    if !parent.up {
        return Err(differs(
            &link.name,
            format!("its parent {} is down", parent.name),
        ));
    }
    Ok(())
}

/// Addresses of other interfaces are other plugins' business. One that names no interface is ours
/// if there is no other.
fn addresses_of(previous: &CniResult, index: usize) -> Vec<IpNet> {
    let is_ours = |ip: &&IpConfig| {
        ip.interface
            .map_or(previous.interfaces.len() == 1, |interface| {
                interface == index
            })
    };
    previous
        .ips
        .iter()
        .filter(is_ours)
        .map(|ip| ip.address)
        .collect()
}

fn check_addresses(inside: &Netlink, link: &Link, expected: &[IpNet]) -> Result<(), Error> {
    let there = inside
        .addresses(link.index)
        .map_err(|error| asking(&error))?;
    match expected
        .iter()
        .find(|expected| !there.iter().any(|address| address.net == **expected))
    {
        Some(missing) => Err(differs(&link.name, format!("address {missing} is missing"))),
        None => Ok(()),
    }
}

/// Every route of the result must be in the container.
fn check_routes(inside: &Netlink, link: &Link, previous: &CniResult) -> Result<(), Error> {
    let there = inside.routes(None).map_err(|error| asking(&error))?;
    for route in routes::plan(link.index, previous) {
        if !there.iter().any(|found| is_kept(&route, found)) {
            let via = route
                .gateway
                .map(|gateway| format!(" via {gateway}"))
                .unwrap_or_default();
            let table = match route.table {
                Route::MAIN => String::new(),
                table => format!(" (table {table})"),
            };
            return Err(differs(
                &link.name,
                format!("route {}{via}{table} is missing", route.dst),
            ));
        }
    }
    Ok(())
}

/// Whether `found` is the route that the result has, or what a later plugin (`sbr`) has made of it:
/// in a table of its own, where there was none named.
fn is_kept(route: &Route, found: &Route) -> bool {
    found.dst == route.dst
        && found.gateway == route.gateway
        && (found.table == route.table || route.table == Route::MAIN)
}

/// 110, naming the difference.
pub(crate) fn differs(ifname: &str, how: impl std::fmt::Display) -> Error {
    Error::new(
        codes::DIFFERS,
        format!("{ifname} is not as it was made: {how}"),
    )
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
    fn an_mtu_that_is_the_parents_is_a_difference_only_where_another_is_configured() {
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

    #[test]
    fn a_route_may_have_been_moved_but_not_redirected() {
        let via = |gateway: &str| {
            Route::new("0.0.0.0/0".parse::<IpNet>().unwrap(), 7)
                .via(gateway.parse::<std::net::IpAddr>().unwrap())
        };
        let route = via("10.0.0.1");
        assert!(is_kept(
            &route,
            &Route {
                table: 100,
                index: 9,
                metric: 7,
                ..route.clone()
            }
        ));
        assert!(!is_kept(&route, &via("10.0.0.2")));
        let elsewhere = Route {
            table: 100,
            ..route.clone()
        };
        assert!(is_kept(&elsewhere, &elsewhere));
        assert!(
            !is_kept(&elsewhere, &route),
            "a table that was asked for is not left by accident"
        );
    }
}
