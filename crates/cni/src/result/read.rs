//! From the document of any version to the model.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::{CniResult, Dns, Interface, IpConfig, Route};
use crate::Version;
use crate::go::Invalid;

pub(crate) fn result(value: Value, default: Version) -> Result<CniResult, Invalid> {
    let mut fields = Fields::of(value)?;
    let version = fields.text("cniVersion")?.parse().unwrap_or(default);
    let mut result = CniResult {
        dns: fields.part("dns", dns)?.unwrap_or_default(),
        ..CniResult::default()
    };
    if version.requires_ip() {
        for family in ["ip4", "ip6"] {
            let Some((ip, mut routes)) = fields.part(family, ip_with_routes)? else {
                continue;
            };
            result.ips.push(ip);
            result.routes.append(&mut routes);
        }
    } else {
        result.interfaces = fields.list("interfaces", interface)?;
        result.ips = fields.list("ips", ip_config)?;
        result.routes = fields.list("routes", route)?;
    }
    result.extra = fields.rest(&["interfaces", "ips", "routes", "ip4", "ip6"]);
    Ok(result)
}

pub(crate) fn dns(value: Value) -> Result<Dns, Invalid> {
    let mut fields = Fields::of(value)?;
    Ok(Dns {
        nameservers: fields.list("nameservers", text)?,
        domain: fields.text("domain")?,
        search: fields.list("search", text)?,
        options: fields.list("options", text)?,
        extra: fields.rest(&[]),
    })
}

/// `ip4` and `ip6` of 0.1.0 and 0.2.0.
fn ip_with_routes(value: Value) -> Result<(IpConfig, Vec<Route>), Invalid> {
    let mut fields = Fields::of(value)?;
    let mut ip = IpConfig::new(fields.parsed("ip")?.ok_or_else(|| missing("ip"))?);
    ip.gateway = fields.parsed("gateway")?;
    let routes = fields.list("routes", route)?;
    ip.extra = fields.rest(&["version", "interface", "address"]);
    Ok((ip, routes))
}

fn interface(value: Value) -> Result<Interface, Invalid> {
    let mut fields = Fields::of(value)?;
    Ok(Interface {
        name: fields.text("name")?,
        mac: fields.text("mac")?,
        mtu: fields.number_above_zero("mtu")?,
        sandbox: fields.text("sandbox")?,
        socket_path: fields.text("socketPath")?,
        pci_id: fields.text("pciID")?,
        extra: fields.rest(&[]),
    })
}

fn ip_config(value: Value) -> Result<IpConfig, Invalid> {
    let mut fields = Fields::of(value)?;
    let mut ip = IpConfig::new(
        fields
            .parsed("address")?
            .ok_or_else(|| missing("address"))?,
    );
    ip.interface = fields.number("interface")?;
    ip.gateway = fields.parsed("gateway")?;
    // `version` says again what the address shows.
    ip.extra = fields.rest(&["version", "ip", "routes"]);
    Ok(ip)
}

fn route(value: Value) -> Result<Route, Invalid> {
    let mut fields = Fields::of(value)?;
    let dst = fields.parsed("dst")?.ok_or_else(|| missing("dst"))?;
    Ok(Route {
        dst,
        gw: fields.parsed("gw")?,
        mtu: fields.number_above_zero("mtu")?,
        advmss: fields.number_above_zero("advmss")?,
        priority: fields.number_above_zero("priority")?,
        table: fields.number("table")?,
        scope: fields.number("scope")?,
        extra: fields.rest(&[]),
    })
}

fn text(value: Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(unexpected(&other, "a string")),
    }
}

fn missing(key: &str) -> Invalid {
    Invalid::new("is missing").under(key)
}

fn unexpected(value: &Value, expected: &str) -> Invalid {
    Invalid::new(format!("expected {expected}, found {value}"))
}

/// The fields of an object, taken out one after the other; what remains is unknown.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: Value) -> Result<Fields, Invalid> {
        match value {
            Value::Object(object) => Ok(Fields(object)),
            other => Err(unexpected(&other, "an object")),
        }
    }

    /// Takes a key by the rules of [`crate::go`]: exact or in another case, and `null` is nothing.
    fn take(&mut self, key: &str) -> Option<Value> {
        let mut found = self.0.remove(key);
        while let Some(variant) = self
            .0
            .keys()
            .find(|name| name.eq_ignore_ascii_case(key))
            .cloned()
        {
            let value = self.0.remove(&variant);
            found = found.or(value);
        }
        found.filter(|value| !value.is_null())
    }

    fn part<T>(
        &mut self,
        key: &str,
        read: fn(Value) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        self.take(key)
            .map(read)
            .transpose()
            .map_err(|invalid| invalid.under(key))
    }

    fn text(&mut self, key: &str) -> Result<String, Invalid> {
        Ok(self.part(key, text)?.unwrap_or_default())
    }

    fn list<T>(
        &mut self,
        key: &str,
        read: fn(Value) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        let items = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(unexpected(&other, "a list").under(key)),
        };
        let read_one = |(i, item)| read(item).map_err(|invalid| invalid.at(i).under(key));
        items.into_iter().enumerate().map(read_one).collect()
    }

    /// A value written as text. Empty text is how older Go code writes an address that is not set.
    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error| Invalid::new(format!("{text:?}: {error}")).under(key))
    }

    fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| unexpected(&value, "a whole number in range").under(key))
    }

    /// A number that cannot be zero: libcni writes and reads zero as "not set".
    fn number_above_zero(&mut self, key: &str) -> Result<Option<u32>, Invalid> {
        Ok(self.number(key)?.filter(|number| *number > 0))
    }

    /// What is left: the unknown fields. Names that another version gives a meaning are dropped, so
    /// that they cannot turn up in a document of that version.
    fn rest(mut self, other_versions: &[&str]) -> Map<String, Value> {
        for key in other_versions {
            self.take(key);
        }
        self.0
    }
}
