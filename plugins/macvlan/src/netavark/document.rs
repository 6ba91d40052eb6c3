//! The documents that netavark writes to a plugin, as far as they concern this one.
//!
//! netavark 1 writes `null` for what is absent, netavark 2 leaves it out, and each version adds
//! fields: what is absent has its default, and what is unknown is ignored.

use std::net::IpAddr;

use cni::{Error, code, json_problem};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What `setup` and `teardown` read: one container's attachment to one network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Exec {
    pub(super) container_id: String,
    /// The name that the user sees. In a pod, it is the pod's.
    pub(super) container_name: String,
    pub(super) network: Network,
    pub(super) network_options: NetworkOptions,
}

/// A network, which is also what `create` reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Network {
    pub(super) name: String,
    /// The parent, from `podman network create --interface-name`.
    pub(super) network_interface: String,
    /// Whether containers have no default route.
    pub(super) internal: bool,
    /// `podman network create -o KEY=VALUE`.
    pub(super) options: Map<String, Value>,
    pub(super) ipam_options: IpamOptions,
    pub(super) subnets: Vec<Subnet>,
    pub(super) routes: Vec<Route>,
}

/// `podman network create --ipam-driver`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IpamOptions {
    pub(super) driver: String,
}

/// A subnet that Podman allocates addresses from.
#[derive(Debug, Deserialize)]
pub(super) struct Subnet {
    pub(super) subnet: IpNet,
    /// Podman fills it in, but for internal networks.
    #[serde(default)]
    pub(super) gateway: Option<IpAddr>,
}

/// `podman network create --route`.
#[derive(Debug, Deserialize)]
pub(super) struct Route {
    pub(super) destination: IpNet,
    #[serde(default)]
    pub(super) gateway: Option<IpAddr>,
    #[serde(default)]
    pub(super) metric: Option<u32>,
    /// Since netavark 2: `unicast`, or a type of route without a gateway.
    #[serde(default)]
    pub(super) route_type: String,
}

/// What is one container's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkOptions {
    /// The user's, then the short container ID, then the host name if the user has given one.
    pub(super) aliases: Vec<String>,
    /// The interface's name in the container.
    pub(super) interface_name: String,
    /// The addresses that Podman has allocated, or those of `--ip` where it allocates none.
    pub(super) static_ips: Vec<IpAddr>,
    pub(super) static_mac: String,
    /// The options of `--network NETWORK:KEY=VALUE` that Podman does not know.
    pub(super) options: Map<String, Value>,
}

impl Route {
    /// Whether it sends packets to a gateway.
    pub(super) fn is_unicast(&self) -> bool {
        ["", "unicast"].contains(&self.route_type.as_str())
    }
}

impl Exec {
    /// Reads the document of `setup` or `teardown`.
    ///
    /// # Errors
    /// 7, naming the field that is not as in netavark's documents.
    pub(super) fn read(document: &Map<String, Value>) -> Result<Exec, Error> {
        cni::go::decode(document).map_err(of_document)
    }

    /// Reads the document of `teardown`. What is wrong with the network's addresses and routes does
    /// not keep a container from being removed.
    ///
    /// # Errors
    /// As [`Exec::read`], for the other fields.
    pub(super) fn read_for_teardown(document: &Map<String, Value>) -> Result<Exec, Error> {
        Exec::read(document).or_else(|error| {
            let mut document = document.clone();
            for (section, fields) in [
                ("network", &["subnets", "routes"][..]),
                ("network_options", &["aliases", "static_ips", "static_mac"]),
            ] {
                if let Some(Value::Object(section)) = document.get_mut(section) {
                    section.retain(|field, _| !fields.contains(&field.as_str()));
                }
            }
            Exec::read(&document).map_err(|_| error)
        })
    }

    /// The host name that the user has given: the alias after the short container ID.
    pub(super) fn hostname(&self) -> Option<&str> {
        let short_id = self.container_id.get(..SHORT_ID_LEN)?;
        let mut aliases = self.network_options.aliases.iter().rev();
        let hostname = aliases.next()?;
        (aliases.next()? == short_id).then_some(hostname.as_str())
    }
}

/// The length of the ID that Podman shows and adds to the aliases.
const SHORT_ID_LEN: usize = 12;

impl Network {
    /// Reads the document of `create`.
    ///
    /// # Errors
    /// As [`Exec::read`].
    pub(super) fn read(document: &Map<String, Value>) -> Result<Network, Error> {
        cni::go::decode(document).map_err(of_document)
    }

    /// The routes through a gateway. The others refuse packets.
    pub(super) fn unicast_routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| route.is_unicast())
    }
}

/// Reads stdin's content as an object.
///
/// # Errors
/// 6, saying what is wrong with it.
pub(super) fn parse(stdin: &[u8]) -> Result<Map<String, Value>, Error> {
    serde_json::from_slice(stdin).map_err(|error| {
        let problem = json_problem(&error);
        let what = format!("the document on stdin is not netavark's: {problem}");
        Error::new(code::DECODING_FAILURE, what)
    })
}

/// The words for a field that is not the network configuration's.
fn of_document(error: Error) -> Error {
    let problem = error.msg.replace(
        "invalid network configuration",
        "the document on stdin is not netavark's",
    );
    Error::new(error.code, problem)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exec(document: Value) -> Result<Exec, Error> {
        Exec::read(document.as_object().expect("an object"))
    }

    #[test]
    fn what_netavark_1_writes_as_null_and_netavark_2_leaves_out_is_absent() {
        let version_1 = json!({
            "container_id": "bb3c", "container_name": "web", "port_mappings": null,
            "network": {
                "name": "lan", "network_interface": null, "options": null, "ipam_options": null,
                "subnets": null, "routes": null, "internal": false,
            },
            "network_options": {
                "aliases": null, "interface_name": "eth0", "static_ips": null, "static_mac": null,
                "options": null,
            },
        });
        let version_2 = json!({
            "container_id": "bb3c", "container_name": "web",
            "network": {
                "name": "lan", "created": "2026-01-01T00:00:00Z", "labels": { "a": "b" },
                "routes": [{ "destination": "10.0.0.0/8", "metric": null }],
            },
            "network_options": { "interface_name": "eth0" },
        });
        for (document, routes) in [(version_1, 0), (version_2, 1)] {
            let exec = exec(document).expect("a valid document");
            assert_eq!(exec.network.name, "lan");
            assert_eq!(exec.network.routes.len(), routes);
            assert_eq!(exec.network.ipam_options.driver, "");
            assert_eq!(exec.network_options.interface_name, "eth0");
        }
    }

    #[test]
    fn a_field_that_is_not_netavarks_is_named() {
        for (document, words) in [
            (json!({ "container_id": 7 }), "container_id: "),
            (
                json!({ "network": { "subnets": [{ "subnet": "here" }] } }),
                "network.subnets[0].subnet: ",
            ),
            (
                json!({ "network_options": { "static_ips": ["10.0.0.256"] } }),
                "network_options.static_ips[0]: ",
            ),
        ] {
            let error = exec(document).expect_err("it is invalid");
            assert!(error.msg.starts_with("the document on stdin"), "{error}");
            assert!(error.msg.contains(words), "{error}");
        }
        for stdin in ["", "7", "{", "[]"] {
            let error = parse(stdin.as_bytes()).expect_err("no object");
            assert!(error.msg.contains("not netavark's"), "{stdin:?}: {error}");
        }
    }

    #[test]
    fn wrong_addresses_and_routes_do_not_keep_a_container_from_being_removed() {
        let document = json!({
            "container_id": "bb3c",
            "network": {
                "name": "lan", "subnets": [{ "subnet": "zz" }], "routes": [{ "destination": 7 }],
            },
            "network_options": { "interface_name": "eth0", "static_ips": ["zz"], "aliases": 7 },
        });
        let document = document.as_object().expect("an object");
        Exec::read(document).expect_err("it is invalid");
        let exec = Exec::read_for_teardown(document).expect("what is needed is there");
        assert_eq!(
            (exec.container_id.as_str(), exec.network.name.as_str()),
            ("bb3c", "lan")
        );
        assert_eq!(exec.network_options.interface_name, "eth0");
        let document = json!({ "container_id": 7, "network": { "subnets": 7 } });
        let error = Exec::read_for_teardown(document.as_object().expect("an object"));
        assert!(error.is_err_and(|error| error.msg.contains("container_id")));
    }

    #[test]
    fn the_host_name_is_the_alias_after_the_short_id() {
        let hostname = |id: &str, aliases: &[&str]| {
            let exec = Exec {
                container_id: id.to_owned(),
                network_options: NetworkOptions {
                    aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
                    ..NetworkOptions::default()
                },
                ..Exec::default()
            };
            exec.hostname().map(str::to_owned)
        };
        let id = "bb3c7f7483f0aaaaaaaaaaaa";
        assert_eq!(hostname(id, &["bb3c7f7483f0", "db"]).as_deref(), Some("db"));
        let aliases = ["www", "bb3c7f7483f0", "db"];
        assert_eq!(hostname(id, &aliases).as_deref(), Some("db"));
        for none in [&["www", "bb3c7f7483f0"][..], &["www", "db"], &["db"], &[]] {
            assert_eq!(hostname(id, none), None, "{none:?}");
        }
        assert_eq!(hostname("bb3c", &["bb3c", "db"]), None);
    }
}
