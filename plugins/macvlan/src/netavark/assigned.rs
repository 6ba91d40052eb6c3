//! The result of an IPAM plugin, for addresses that Podman has allocated itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{CniResult, Error, IpConfig, Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::document::{Network, Subnet};
use crate::config;

/// The addresses with the prefixes and gateways of their subnets, and a default route for each
/// family that has a gateway, if that is wanted.
///
/// # Errors
/// 7 if there is no address, or one that is in no subnet of the network.
pub(super) fn result(
    network: &Network,
    addresses: &[IpAddr],
    has_default_route: bool,
) -> Result<CniResult, Error> {
    if addresses.is_empty() {
        return Err(config::invalid(
            "the network has subnets, but Podman has allocated no address",
        ));
    }
    let assign = |address: &IpAddr| {
        let subnet = subnet_of(&network.subnets, address)?;
        let net = IpNet::new(*address, subnet.subnet.prefix_len());
        Ok(IpConfig {
            gateway: subnet.gateway.filter(|_| !network.internal),
            ..IpConfig::new(net.map_err(config::invalid)?)
        })
    };
    let ips: Vec<IpConfig> = addresses.iter().map(assign).collect::<Result<_, Error>>()?;
    let has_gateway = |default: &IpNet| {
        let mut gateways = ips.iter().filter_map(|ip| ip.gateway);
        gateways.any(|gateway| gateway.is_ipv6() == default.addr().is_ipv6())
    };
    // A default route of the user's takes the place of the subnet's.
    let is_configured = |default: &IpNet| {
        let mut routes = network.unicast_routes();
        routes.any(|route| route.destination == *default)
    };
    let defaults = EVERYTHING
        .into_iter()
        .filter(|default| has_gateway(default) && !is_configured(default));
    Ok(CniResult {
        routes: defaults
            .filter(|_| has_default_route)
            .map(Route::new)
            .collect(),
        ips,
        ..CniResult::default()
    })
}

/// The destinations of default routes.
const EVERYTHING: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

fn subnet_of<'a>(subnets: &'a [Subnet], address: &IpAddr) -> Result<&'a Subnet, Error> {
    let mut containing = subnets.iter().filter(|it| it.subnet.contains(address));
    containing.next().ok_or_else(|| {
        let all: Vec<String> = subnets.iter().map(|it| it.subnet.to_string()).collect();
        let all = all.join(", ");
        config::invalid(format_args!("{address} is in no subnet of {all}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn network(internal: bool) -> Network {
        let document = json!({
            "internal": internal,
            "subnets": [
                { "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" },
                { "subnet": "fd99::/64", "gateway": "fd99::1" },
                { "subnet": "10.98.0.0/16" },
            ],
        });
        Network::read(document.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_default_route_of_the_users_takes_the_place_of_the_subnets() {
        let document = json!({
            "subnets": [
                { "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" },
                { "subnet": "fd99::/64", "gateway": "fd99::1" },
            ],
            "routes": [{ "destination": "0.0.0.0/0", "gateway": "10.99.0.2" }],
        });
        let network = Network::read(document.as_object().unwrap()).unwrap();
        let assigned = assigned(&network, &["10.99.0.7", "fd99::7"], true).unwrap();
        assert_eq!(assigned[1], json!(["::/0"]));
    }

    /// The addresses with their gateways, and the destinations of the routes.
    fn assigned(network: &Network, addresses: &[&str], default: bool) -> Result<Value, Error> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let result = result(network, &addresses, default)?;
        let ips = result.ips.iter().map(|ip| json!([ip.address, ip.gateway]));
        let routes = result.routes.iter().map(|route| route.dst.to_string());
        Ok(json!([ips.collect::<Vec<_>>(), routes.collect::<Vec<_>>()]))
    }

    #[test]
    fn an_address_has_the_prefix_and_the_gateway_of_its_subnet() {
        let all = ["10.99.0.7", "fd99::7", "10.98.3.7", "10.99.0.8"];
        assert_eq!(
            assigned(&network(false), &all, true).unwrap(),
            json!([
                [
                    ["10.99.0.7/24", "10.99.0.1"],
                    ["fd99::7/64", "fd99::1"],
                    ["10.98.3.7/16", null],
                    ["10.99.0.8/24", "10.99.0.1"],
                ],
                ["0.0.0.0/0", "::/0"],
            ])
        );
    }

    #[test]
    fn there_is_no_default_route_without_a_gateway_or_where_none_is_wanted() {
        for (network, address, default, expected) in [
            (network(true), "10.99.0.7", true, json!([])),
            (network(false), "10.98.0.7", true, json!([])),
            (network(false), "10.99.0.7", false, json!([])),
            (network(false), "fd99::7", true, json!(["::/0"])),
        ] {
            let result = assigned(&network, &[address], default).unwrap();
            assert_eq!(result[1], expected, "{address}");
        }
        let internal = assigned(&network(true), &["10.99.0.7"], true).unwrap();
        assert_eq!(internal[0], json!([["10.99.0.7/24", null]]));
    }

    #[test]
    fn an_address_without_a_subnet_is_refused() {
        let error = assigned(&network(false), &["10.97.0.7"], true).unwrap_err();
        let words = "10.97.0.7 is in no subnet of 10.99.0.0/24, fd99::/64, 10.98.0.0/16";
        assert!(error.msg.ends_with(words), "{error}");
        let error = assigned(&network(false), &[], true).unwrap_err();
        assert!(error.msg.contains("no address"), "{error}");
    }
}
