//! The fields of the network configuration that every plugin reads (spec §1 and §3).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Error, code};
use crate::go;
use crate::invalid::Invalid;
use crate::request::attachment::Attachment;
use crate::request::validate;
use crate::request::verb::Verb;
use crate::result::{self, CniResult, Dns};
use crate::version::Version;

/// The network configuration on stdin. A plugin decodes the fields of its own from `raw`, with
/// [`go::decode`].
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// `cniVersion`, in which the plugin must answer. An empty one means 0.1.0.
    pub version: Version,
    /// `name`: the network's name, which is valid.
    pub name: String,
    /// `type`: the name of the plugin that the runtime called. A delegate finds here the name of
    /// the plugin that called it.
    pub plugin_type: String,
    /// `ipam`, with all its keys.
    pub ipam: Option<Map<String, Value>>,
    /// `dns`.
    pub dns: Dns,
    /// `prevResult`. CHECK always has one.
    pub prev_result: Option<CniResult>,
    /// `runtimeConfig`: the runtime's values for the capabilities that the configuration declares.
    pub(crate) runtime_config: Map<String, Value>,
    /// `args.cni`: what the user asks for this container (CONVENTIONS.md).
    pub(crate) cni_args: Map<String, Value>,
    /// The whole configuration.
    pub raw: Map<String, Value>,
}

impl NetworkConfig {
    /// The keys that any plugin's configuration may have.
    pub const KEYS: &[&str] = &[
        "cniVersion",
        "name",
        "type",
        "ipam",
        "dns",
        "args",
        "capabilities",
        "runtimeConfig",
        "prevResult",
    ];

    /// `ipam.type`: the name of the plugin that manages addresses. `None` if the network has no
    /// IPAM, and so works at layer 2 only.
    pub fn ipam_type(&self) -> Option<&str> {
        go::get(self.ipam.as_ref()?, "type")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Reads and validates the configuration for one verb. The second value has warnings, about
    /// what is wrong but does not keep the verb from being served.
    pub(super) fn parse(
        raw: Map<String, Value>,
        verb: Verb,
    ) -> Result<(NetworkConfig, Vec<String>), Error> {
        let version = Version::from_field(go::text(&raw, "cniVersion")?)?;
        if version < verb.since() {
            return Err(Error::new(
                code::INCOMPATIBLE_VERSION,
                format!(
                    "cniVersion {version} does not have {verb}, which was added in {}",
                    verb.since()
                ),
            ));
        }
        let name = go::text(&raw, "name")?.to_owned();
        validate::identifier(&name)
            .map_err(|problem| Invalid::new(problem).under("name").into_config_error())?;

        let mut reader = Reader {
            verb,
            warnings: Vec::new(),
        };
        reader.tolerate(ensure_no_list(&raw))?;
        let prev_result = reader.tolerate(prev_result(&raw, version))?;
        if verb == Verb::Check && prev_result.is_none() {
            let missing = Invalid::new("is missing, and CHECK needs it").under("prevResult");
            return Err(missing.into_config_error());
        }
        let config = NetworkConfig {
            version,
            name,
            plugin_type: reader.tolerate(go::text(&raw, "type"))?.to_owned(),
            ipam: reader.tolerate(ipam(&raw))?,
            dns: reader.tolerate(dns(&raw))?,
            prev_result,
            runtime_config: reader.tolerate(object(&raw, "runtimeConfig"))?,
            cni_args: reader.tolerate(cni_args(&raw))?,
            raw,
        };
        Ok((config, reader.warnings))
    }
}

/// Reads fields for one verb.
struct Reader {
    verb: Verb,
    warnings: Vec<String>,
}

impl Reader {
    /// The value of a field. For DEL an invalid one counts as absent, and is warned about: neither
    /// the configuration of a network that was changed since ADD, nor an invalid result in the
    /// runtime's cache, must keep a container from being removed.
    fn tolerate<T: Default>(&mut self, field: Result<T, Invalid>) -> Result<T, Error> {
        match field {
            Err(invalid) if self.verb == Verb::Del => {
                self.warnings.push(format!("ignored: {invalid}"));
                Ok(T::default())
            }
            field => Ok(field?),
        }
    }
}

fn ipam(raw: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Invalid> {
    let ipam = optional_object(raw, "ipam")?;
    if let Some(ipam) = ipam {
        go::text(ipam, "type").map_err(|invalid| invalid.under("ipam"))?;
        // An empty type, as Go programs write it, means that there is no IPAM.
        let has_type = ipam.keys().any(|key| key.eq_ignore_ascii_case("type"));
        if !has_type && !ipam.is_empty() {
            let meant = match go::misspelt_keys(ipam, &["type"]).first() {
                Some((key, known)) => format!(": did you mean {known:?} by {key:?}?"),
                None => String::new(),
            };
            return Err(Invalid::new(format!("has keys but no type{meant}")).under("ipam"));
        }
    }
    Ok(ipam.cloned())
}

/// Refuses a list of networks, which has the plugins' configurations inside it.
fn ensure_no_list(raw: &Map<String, Value>) -> Result<(), Invalid> {
    match (go::get(raw, "plugins"), go::get(raw, "type")) {
        (Some(Value::Array(_)), None) => {
            let what = "this is a configuration list; a plugin gets one of its entries, with the list's cniVersion and name";
            Err(Invalid::new(what).under("plugins"))
        }
        _ => Ok(()),
    }
}

fn cni_args(raw: &Map<String, Value>) -> Result<Map<String, Value>, Invalid> {
    let args = object(raw, "args")?;
    object(&args, "cni").map_err(|invalid| invalid.under("args"))
}

fn dns(raw: &Map<String, Value>) -> Result<Dns, Invalid> {
    let dns = go::get(raw, "dns").cloned().map(result::dns).transpose();
    Ok(dns
        .map_err(|invalid| invalid.under("dns"))?
        .unwrap_or_default())
}

/// The attachments to `network` that GC must keep. The specification and libcni write them under
/// different keys, and both lists count.
///
/// Returns `None` if there is neither key. That is not an empty list: libcni leaves the key out if
/// the runtime gave it no list.
pub(super) fn valid_attachments(
    raw: &Map<String, Value>,
    network: &str,
) -> Result<Option<BTreeSet<Attachment>>, Error> {
    let mut all = None;
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let Some(value) = go::get(raw, key) else {
            continue;
        };
        let list = attachments(value, network).map_err(|invalid| invalid.under(key))?;
        all.get_or_insert_with(BTreeSet::new).extend(list);
    }
    Ok(all)
}

fn attachments(value: &Value, network: &str) -> Result<Vec<Attachment>, Invalid> {
    let items = value
        .as_array()
        .ok_or_else(|| Invalid::unexpected("a list", value))?;
    let read_one = |(i, item): (usize, &Value)| {
        let object = item
            .as_object()
            .ok_or_else(|| Invalid::unexpected("an object", item).at(i))?;
        let part = |key| match go::text(object, key) {
            Ok("") => Err(Invalid::missing(key).at(i)),
            other => other.map_err(|invalid| invalid.at(i)),
        };
        let (container_id, ifname) = (part("containerID")?, part("ifname")?);
        // ADD refuses invalid names, so this plugin cannot have made an attachment with one.
        Ok(Attachment::new(container_id, network, ifname).ok())
    };
    let read = items.iter().enumerate().map(read_one);
    read.filter_map(Result::transpose).collect()
}

fn prev_result(raw: &Map<String, Value>, version: Version) -> Result<Option<CniResult>, Invalid> {
    let result = go::get(raw, "prevResult").cloned();
    let result = result.map(|value| result::read(value, version)).transpose();
    result.map_err(|invalid| invalid.under("prevResult"))
}

/// The object in a field, empty if there is none.
fn object(raw: &Map<String, Value>, key: &str) -> Result<Map<String, Value>, Invalid> {
    Ok(optional_object(raw, key)?.cloned().unwrap_or_default())
}

fn optional_object<'a>(
    raw: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, Invalid> {
    match go::get(raw, key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(Invalid::unexpected("an object", other).under(key)),
    }
}

#[cfg(test)]
mod tests;
