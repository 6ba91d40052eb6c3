//! The options of networks and containers: the keys of `macvlan` and `dhcp` as text.

use cni::Error;
use serde_json::{Map, Value};

use crate::config;

/// The keys of the dhcp plugin's section. A test compares them with that plugin.
pub const DHCP_KEYS: &[&str] = &[
    "daemonSocketPath",
    "stateDir",
    "autostart",
    "announce",
    "broadcast",
    "clientId",
    "conflictDetection",
    "fqdn",
    "hostname",
    "onChange",
    PRIORITY,
    "provide",
    "rapidCommit",
    "release",
    "request",
    "requestedAddress",
    "routes",
    "servers",
    "suppress",
    "timeout",
];

/// The metric of routes, which addresses from Podman's own IPAM driver may have too.
pub(super) const PRIORITY: &str = "priority";

/// Of the keys that every network configuration may have, the only one that can be an option.
pub(super) const DNS: &str = "dns";

/// The keys of `dns`, if that is an object.
const DNS_KEYS: &[&str] = &["nameservers", "domain", "search", "options"];

/// The option of netavark's drivers that leaves out the default route.
const NO_DEFAULT_ROUTE: &str = "no_default_route";

/// Options that netavark's own drivers have under other names.
const OTHER_NAMES: [(&str, &str); 2] = [("parent", "master"), ("metric", PRIORITY)];

/// The options of a container's attachment, by where they belong.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    /// Keys of `macvlan`.
    pub(super) macvlan: Map<String, Value>,
    /// Keys of the `ipam` section.
    pub(super) ipam: Map<String, Value>,
    /// `dns`: `false` if the server's are not wanted.
    pub(super) dns: Option<Value>,
    /// Whether there is to be no default route.
    pub(super) no_default_route: bool,
    /// The keys that are none of these.
    unknown: Map<String, Value>,
}

impl Options {
    /// Reads the options of the network, and those of the container, which override them.
    pub(super) fn read(network: &Map<String, Value>, container: &Map<String, Value>) -> Options {
        let mut options = Options::default();
        for (key, text) in network.iter().chain(container) {
            options.set(key, value(text));
        }
        options
    }

    fn set(&mut self, key: &str, value: Value) {
        let is_key = |known: &str| known.eq_ignore_ascii_case(key);
        let other = OTHER_NAMES.iter().find(|(name, _)| is_key(name));
        if let Some((_, name)) = other {
            return self.set(name, value);
        }
        let find = |known: &[&'static str]| known.iter().copied().find(|known| is_key(known));
        if let Some(name) = find(config::keys()) {
            self.macvlan.insert(name.to_owned(), value);
        } else if let Some(name) = find(DHCP_KEYS) {
            self.ipam.insert(name.to_owned(), value);
        } else if is_key(DNS) {
            self.dns = Some(value);
        } else if let (true, Value::Bool(value)) = (is_key(NO_DEFAULT_ROUTE), &value) {
            self.no_default_route = *value;
        } else {
            self.unknown.insert(key.to_owned(), value);
        }
    }

    /// Refuses unknown options: a misspelt one would have no effect.
    ///
    /// # Errors
    /// 7, naming the option, and the one that is probably meant.
    pub(super) fn ensure_known(&self) -> Result<(), Error> {
        if let Some(Value::Object(dns)) = &self.dns {
            let is_known = |key: &str| DNS_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key));
            if let Some(key) = dns.keys().find(|key| !is_known(key)) {
                return Err(unknown(&format!("{DNS}: "), key, dns, DNS_KEYS));
            }
        }
        let Some((key, value)) = self.unknown.iter().next() else {
            return Ok(());
        };
        if key.eq_ignore_ascii_case(NO_DEFAULT_ROUTE) {
            let what = format!("{NO_DEFAULT_ROUTE}: expected true or false, found {value}");
            return Err(config::invalid(what));
        }
        let names = OTHER_NAMES.iter().map(|(name, _)| *name);
        let known = [config::keys(), DHCP_KEYS, &[DNS, NO_DEFAULT_ROUTE]].concat();
        let known: Vec<&str> = known.into_iter().chain(names).collect();
        Err(unknown("", key, &self.unknown, &known))
    }
}

/// The error for an unknown key among `keys`, with the known one that is probably meant.
fn unknown(place: &str, key: &str, keys: &Map<String, Value>, known: &[&str]) -> Error {
    let misspelt = cni::go::misspelt_keys(keys, known);
    let advice = match misspelt.iter().find(|(misspelt, _)| *misspelt == key) {
        Some((_, meant)) => format!("; did you mean {meant:?}?"),
        None => String::new(),
    };
    config::invalid(format_args!("{place}there is no key {key:?}{advice}"))
}

/// An option's value: JSON if it is JSON, and the text itself otherwise.
fn value(text: &Value) -> Value {
    match text {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use cni::code;
    use serde_json::json;

    use super::*;

    fn read(network: Value, container: Value) -> Options {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        Options::read(&object(network), &object(container))
    }

    #[test]
    fn a_misspelt_key_of_dns_is_refused() {
        let options = read(
            json!({ "dns": "{\"nameserver\":[\"9.9.9.9\"]}" }),
            json!(null),
        );
        let error = options.ensure_known().expect_err("nameservers");
        assert!(
            error
                .msg
                .contains("dns: there is no key \"nameserver\"; did you mean \"nameservers\"?")
        );
        let options = read(
            json!({ "dns": "{\"nameServers\":[\"9.9.9.9\"]}" }),
            json!(null),
        );
        options.ensure_known().expect("a key in any case");
    }

    #[test]
    fn an_option_is_a_key_of_either_plugin_and_json_where_it_is_json() {
        let options = read(
            json!({
                "parent": "eth1", "vlan": "228", "HostAccess": "true", "keepRoutes": "[\"10.0.0.0/8\"]",
                "mac": "02:11:22:33:44:55", "clientId": "name", "timeout": "30s", "metric": "50",
                "hostname": "\"7\"", "dns": "false",
            }),
            json!(null),
        );
        let macvlan = json!({
            "master": "eth1", "vlan": 228, "hostAccess": true, "keepRoutes": ["10.0.0.0/8"],
            "mac": "02:11:22:33:44:55",
        });
        let ipam = json!({ "clientId": "name", "timeout": "30s", "priority": 50, "hostname": "7" });
        assert_eq!(Value::from(options.macvlan.clone()), macvlan);
        assert_eq!(Value::from(options.ipam.clone()), ipam);
        assert_eq!(options.dns, Some(json!(false)));
        assert_eq!(options.ensure_known(), Ok(()));
    }

    #[test]
    fn an_option_of_the_container_overrides_the_networks_however_it_is_spelt() {
        let options = read(
            json!({ "parent": "eth1", "hostAccess": "true", "no_default_route": "true" }),
            json!({ "master": "eth2", "hostaccess": "false", "no_default_route": "false" }),
        );
        let macvlan = json!({ "master": "eth2", "hostAccess": false });
        assert_eq!(Value::from(options.macvlan), macvlan);
        assert!(!options.no_default_route);
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_one_that_is_meant() {
        for (options, words) in [
            (
                json!({ "gaurd": "true" }),
                "\"gaurd\"; did you mean \"guard\"?",
            ),
            (json!({ "clientID ": "x" }), "did you mean \"clientId\"?"),
            (json!({ "perent": "x" }), "did you mean \"parent\"?"),
            (json!({ "isolate": "true" }), "there is no key \"isolate\""),
            (json!({ "ipam": "{}" }), "there is no key \"ipam\""),
            (json!({ "name": "x" }), "there is no key \"name\""),
            (
                json!({ "no_default_route": "7" }),
                "no_default_route: expected true or false, found 7",
            ),
        ] {
            let error = read(options, json!({})).ensure_known();
            let error = error.expect_err("it is unknown");
            assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
            assert!(error.msg.contains(words), "{error}");
        }
    }
}
