//! Writes the model as a document of one version.

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::result::model::{CniResult, Dns, Interface, IpConfig, Route};
use crate::version::Version;

impl CniResult {
    /// Writes the result as a document of `version`, without the fields that this version does not
    /// have. Of several addresses, 0.1.0 and 0.2.0 get the first of each family, as from libcni. A
    /// result without an address is written as it is, although libcni's conversion to these two
    /// fails.
    pub fn to_value(&self, version: Version) -> Value {
        result(self, version, Fields::Of(version))
    }

    /// Writes the result for a plugin that delegated to this one. The document has the shape of
    /// `version`, but keeps the fields of later versions, as documents of the Go plugins do. So the
    /// metric of a route reaches the plugin that adds the route, even in a version that cannot
    /// report it to the runtime.
    pub fn to_value_for_caller(&self, version: Version) -> Value {
        result(self, version, Fields::All)
    }
}

/// Which of the fields that later versions added a document has.
#[derive(Clone, Copy)]
enum Fields {
    /// Those that this version has.
    Of(Version),
    /// All of them.
    All,
}

impl Fields {
    fn include(self, since: Version) -> bool {
        match self {
            Fields::Of(version) => version >= since,
            Fields::All => true,
        }
    }
}

/// Writes a document in the shape of `version`, with these fields in its parts.
fn result(result: &CniResult, version: Version, fields: Fields) -> Value {
    let mut document = if version.has_lists() {
        by_list(result, version, fields)
    } else {
        by_family(result, fields)
    };
    document.insert("cniVersion".to_owned(), version.as_str().into());
    // libcni writes an empty `dns` up to 0.4.0, and leaves it out from 1.0.0 on.
    if version < Version::V1_0_0 || !result.dns.is_empty() {
        document.insert("dns".to_owned(), dns(&result.dns));
    }
    document.into()
}

/// Writes 0.3.0 and later, which have lists of interfaces, addresses and routes.
fn by_list(result: &CniResult, version: Version, fields: Fields) -> Map<String, Value> {
    let mut document = result.extra.clone();
    put_list(
        &mut document,
        "interfaces",
        result.interfaces.iter().map(|i| interface(i, fields)),
    );
    put_list(
        &mut document,
        "ips",
        result.ips.iter().map(|ip| ip_config(ip, version)),
    );
    put_list(
        &mut document,
        "routes",
        result.routes.iter().map(|r| route(r, fields)),
    );
    document
}

/// Writes 0.1.0 and 0.2.0, which have no interfaces, and in `ip4` and `ip6` one address each with
/// the routes of its family.
fn by_family(result: &CniResult, fields: Fields) -> Map<String, Value> {
    let mut document = result.extra.clone();
    let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    for (family, v4) in [("ip4", true), ("ip6", false)] {
        let Some(ip) = result.ips.iter().find(|ip| is_v4(&ip.address) == v4) else {
            continue;
        };
        let mut object = ip.extra.clone();
        object.insert("ip".to_owned(), ip.address.to_string().into());
        put(
            &mut object,
            "gateway",
            ip.gateway.map(|gateway| gateway.to_string()),
        );
        let routes = result.routes.iter().filter(|route| is_v4(&route.dst) == v4);
        put_list(&mut object, "routes", routes.map(|r| route(r, fields)));
        document.insert(family.to_owned(), object.into());
    }
    document
}

fn interface(interface: &Interface, fields: Fields) -> Value {
    let mut object = interface.extra.clone();
    object.insert("name".to_owned(), interface.name.as_str().into());
    put_text(&mut object, "mac", &interface.mac);
    put_text(&mut object, "sandbox", &interface.sandbox);
    if fields.include(Version::V1_1_0) {
        put(&mut object, "mtu", interface.mtu);
        put_text(&mut object, "socketPath", &interface.socket_path);
        put_text(&mut object, "pciID", &interface.pci_id);
    }
    object.into()
}

fn ip_config(ip: &IpConfig, version: Version) -> Value {
    let mut object = ip.extra.clone();
    if version < Version::V1_0_0 {
        let family = if matches!(ip.address, IpNet::V4(_)) {
            "4"
        } else {
            "6"
        };
        object.insert("version".to_owned(), family.into());
    }
    object.insert("address".to_owned(), ip.address.to_string().into());
    put(
        &mut object,
        "gateway",
        ip.gateway.map(|gateway| gateway.to_string()),
    );
    put(&mut object, "interface", ip.interface);
    object.into()
}

fn route(route: &Route, fields: Fields) -> Value {
    let mut object = route.extra.clone();
    object.insert("dst".to_owned(), route.dst.to_string().into());
    put(&mut object, "gw", route.gw.map(|gw| gw.to_string()));
    if fields.include(Version::V1_1_0) {
        put(&mut object, "mtu", route.mtu);
        put(&mut object, "advmss", route.advmss);
        put(&mut object, "priority", route.priority);
        put(&mut object, "table", route.table);
        put(&mut object, "scope", route.scope);
    }
    object.into()
}

fn dns(dns: &Dns) -> Value {
    let mut object = dns.extra.clone();
    put_list(
        &mut object,
        "nameservers",
        dns.nameservers.iter().map(|server| server.as_str().into()),
    );
    put_text(&mut object, "domain", &dns.domain);
    put_list(
        &mut object,
        "search",
        dns.search.iter().map(|domain| domain.as_str().into()),
    );
    put_list(
        &mut object,
        "options",
        dns.options.iter().map(|option| option.as_str().into()),
    );
    object.into()
}

fn put(object: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), value.into());
    }
}

fn put_text(object: &mut Map<String, Value>, key: &str, text: &str) {
    put(object, key, Some(text).filter(|text| !text.is_empty()));
}

fn put_list(object: &mut Map<String, Value>, key: &str, items: impl Iterator<Item = Value>) {
    let items: Vec<Value> = items.collect();
    put(object, key, Some(items).filter(|items| !items.is_empty()));
}
