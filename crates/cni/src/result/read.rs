//! Reads the model from a document of any version.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::{Error, code};
use crate::invalid::Invalid;
use crate::result::model::{CniResult, Dns, Interface, IpConfig, Route};
use crate::version::Version;

impl CniResult {
    /// Reads a result in the version that the document names. If it names none, or one that this
    /// library does not know, it is read as one of version `default`: a `prevResult` may lack its
    /// version.
    ///
    /// Fields of later versions are read in earlier ones too, because the Go plugins write them
    /// there.
    ///
    /// # Errors
    /// [`code::DECODING_FAILURE`], naming the field by its path.
    pub fn from_value(value: Value, default: Version) -> Result<CniResult, Error> {
        result(value, default).map_err(|invalid| {
            Error::new(
                code::DECODING_FAILURE,
                format!("invalid CNI result: {invalid}"),
            )
        })
    }
}

/// Reads a result as [`CniResult::from_value`] does. The caller adds the path that leads to it.
pub(crate) fn result(value: Value, default: Version) -> Result<CniResult, Invalid> {
    let mut fields = Fields::of(value)?;
    let version = fields.text("cniVersion")?.parse().unwrap_or(default);
    let mut result = CniResult {
        dns: fields.part("dns", dns)?.unwrap_or_default(),
        ..CniResult::default()
    };
    if version.has_lists() {
        result.interfaces = fields.list("interfaces", interface)?;
        result.ips = fields.list("ips", ip_config)?;
        result.routes = fields.list("routes", route)?;
    } else {
        for family in ["ip4", "ip6"] {
            let Some((ip, mut routes)) = fields.part(family, ip_with_routes)? else {
                continue;
            };
            result.ips.push(ip);
            result.routes.append(&mut routes);
        }
    }
    result.extra = fields.rest(&["interfaces", "ips", "routes", "ip4", "ip6"]);
    Ok(result)
}

/// Reads the resolver configuration, which results and network configurations write alike.
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

/// Reads the value of `ip4` or `ip6` in 0.1.0 and 0.2.0.
fn ip_with_routes(value: Value) -> Result<(IpConfig, Vec<Route>), Invalid> {
    let mut fields = Fields::of(value)?;
    let mut ip = IpConfig::new(fields.required("ip")?);
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
    let mut ip = IpConfig::new(fields.required("address")?);
    ip.interface = fields.number("interface")?;
    ip.gateway = fields.parsed("gateway")?;
    // `version` repeats what the address shows.
    ip.extra = fields.rest(&["version", "ip", "routes"]);
    Ok(ip)
}

fn route(value: Value) -> Result<Route, Invalid> {
    let mut fields = Fields::of(value)?;
    Ok(Route {
        dst: fields.required("dst")?,
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
        other => Err(Invalid::unexpected("a string", &other)),
    }
}

/// The fields of an object. Each is taken out as it is read, so that the unknown ones remain.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: Value) -> Result<Fields, Invalid> {
        match value {
            Value::Object(object) => Ok(Fields(object)),
            other => Err(Invalid::unexpected("an object", &other)),
        }
    }

    /// Takes a field out by the rules of [`crate::go`]: its key may be in another case, and `null`
    /// counts as absent. All keys that match are taken, and the exact one wins.
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
            Some(other) => return Err(Invalid::unexpected("a list", &other).under(key)),
        };
        let read_one = |(i, item)| read(item).map_err(|invalid| invalid.at(i).under(key));
        items.into_iter().enumerate().map(read_one).collect()
    }

    /// Parses a value that is written as text. Older Go code writes an address that is not set as
    /// empty text.
    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error| Invalid::new(format!("{text:?}: {error}")).under(key))
    }

    fn required<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<T, Invalid> {
        self.parsed(key)?.ok_or_else(|| Invalid::missing(key))
    }

    fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| Invalid::unexpected("a whole number in range", &value).under(key))
    }

    /// A number that cannot be zero. libcni writes zero for one that is not set.
    fn number_above_zero(&mut self, key: &str) -> Result<Option<u32>, Invalid> {
        Ok(self.number(key)?.filter(|number| *number > 0))
    }

    /// Returns the unknown fields, which remain when all others are taken. Those that another
    /// version defines are dropped: they must not turn up in a document of that version.
    fn rest(mut self, other_versions: &[&str]) -> Map<String, Value> {
        for key in other_versions {
            self.take(key);
        }
        self.0
    }
}
