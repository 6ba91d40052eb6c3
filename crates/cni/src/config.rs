//! The network configuration on stdin: what every plugin reads of it (spec §1 and §3).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::go::{self, Invalid};
use crate::{Attachment, CniResult, Dns, Error, Verb, Version, code, result, validate};

/// The well-known part of a network configuration. What belongs to one plugin alone it decodes from
/// `raw` itself, with [`go::decode`].
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// `cniVersion`: the version to answer in. Empty means 0.1.0.
    pub version: Version,
    /// `name` of the network, which is valid.
    pub name: String,
    /// `type`: the plugin that the runtime meant to call. For a delegate that is the one above it.
    pub plugin_type: String,
    /// `ipam`, whole.
    pub ipam: Option<Map<String, Value>>,
    /// `dns`.
    pub dns: Dns,
    /// `prevResult`: always there for CHECK.
    pub prev_result: Option<CniResult>,
    /// `runtimeConfig`: what the runtime filled in for the capabilities that the configuration
    /// declares.
    pub runtime_config: Map<String, Value>,
    /// `args.cni` (CONVENTIONS.md): what the user asked for this container.
    pub cni_args: Map<String, Value>,
    /// Every key as it came.
    pub raw: Map<String, Value>,
}

impl NetworkConfig {
    /// `ipam.type`: the plugin that manages addresses. `None` for a network without any (L2 only).
    pub fn ipam_type(&self) -> Option<&str> {
        go::get(self.ipam.as_ref()?, "type")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Reads and validates the configuration for one verb. The second value has things that were
    /// wrong but not worth failing for.
    pub(crate) fn parse(
        raw: Map<String, Value>,
        verb: Verb,
    ) -> Result<(NetworkConfig, Vec<String>), Error> {
        let version = Version::of_field(&text(&raw, "cniVersion")?)?;
        if version < verb.since() {
            return Err(Error::new(
                code::INCOMPATIBLE_VERSION,
                format!(
                    "cniVersion {version} does not have {verb}, which came with {}",
                    verb.since()
                ),
            ));
        }
        let name = text(&raw, "name")?;
        validate::identifier(&name)
            .map_err(|what| Invalid::new(what).under("name").into_config_error())?;

        let mut warnings = Vec::new();
        let prev_result = match prev_result(&raw, version) {
            // DEL does its best with what it has; a broken cache of the runtime's must not keep a
            // container alive.
            Err(error) if verb == Verb::Del => {
                warnings.push(format!("prevResult is ignored: {}", error.msg));
                None
            }
            other => other?,
        };
        if verb == Verb::Check && prev_result.is_none() {
            let missing = Invalid::new("is missing; CHECK compares with it").under("prevResult");
            return Err(missing.into_config_error());
        }

        let ipam = object(&raw, "ipam")?.cloned();
        if let Some(ipam) = &ipam {
            text(ipam, "type").map_err(|invalid| invalid.under("ipam"))?;
        }
        let args = object(&raw, "args")?;
        let cni_args =
            args.map(|args| object(args, "cni").map_err(|invalid| invalid.under("args")));
        let dns = go::get(&raw, "dns").cloned().map(result::dns).transpose();
        let config = NetworkConfig {
            version,
            name,
            plugin_type: text(&raw, "type")?,
            ipam,
            dns: dns
                .map_err(|invalid| invalid.under("dns"))?
                .unwrap_or_default(),
            prev_result,
            runtime_config: object(&raw, "runtimeConfig")?.cloned().unwrap_or_default(),
            cni_args: cni_args.transpose()?.flatten().cloned().unwrap_or_default(),
            raw,
        };
        Ok((config, warnings))
    }
}

/// The attachments to this network that GC must keep: those of the specification's key and of
/// libcni's, together. `None` when there is neither key: libcni leaves it out when it was given no
/// list, which is not the same as an empty one.
pub(crate) fn valid_attachments(
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
        .ok_or_else(|| Invalid::new(format!("expected a list, found {value}")))?;
    let read_one = |(i, item): (usize, &Value)| {
        let object = item
            .as_object()
            .ok_or_else(|| Invalid::new(format!("expected an object, found {item}")).at(i))?;
        let part = |key| match text(object, key) {
            Ok(text) if text.is_empty() => Err(Invalid::new("is missing").under(key).at(i)),
            other => other.map_err(|invalid| invalid.at(i)),
        };
        let (container_id, ifname) = (part("containerID")?, part("ifname")?);
        // ADD refuses an invalid name, so an entry with one can be no attachment of this plugin's.
        Ok(Attachment::new(container_id, network, ifname).ok())
    };
    let read = items.iter().enumerate().map(read_one);
    read.filter_map(Result::transpose).collect()
}

fn prev_result(raw: &Map<String, Value>, version: Version) -> Result<Option<CniResult>, Error> {
    let Some(value) = go::get(raw, "prevResult") else {
        return Ok(None);
    };
    Ok(Some(
        result::read(value.clone(), version).map_err(|invalid| invalid.under("prevResult"))?,
    ))
}

fn text(object: &Map<String, Value>, key: &str) -> Result<String, Invalid> {
    match go::get(object, key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Invalid::new(format!("expected a string, found {other}")).under(key)),
    }
}

fn object<'a>(
    object: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, Invalid> {
    match go::get(object, key) {
        None => Ok(None),
        Some(Value::Object(part)) => Ok(Some(part)),
        Some(other) => Err(Invalid::new(format!("expected an object, found {other}")).under(key)),
    }
}

#[cfg(test)]
mod tests;
