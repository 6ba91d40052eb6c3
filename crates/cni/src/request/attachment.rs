//! The identity of an attachment.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::request::validate;

/// One interface of one container on one network. ADD, CHECK and DEL are about one attachment,
/// which the container's ID, the network's name and the interface's name identify (spec §2,
/// "Parameters").
///
/// All three are valid, so each can be a part of a file's name: none is empty, is `.` or `..`, or
/// contains a slash, a colon or a NUL.
///
/// Copies share their memory: a daemon has several of each of thousands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "Parts<String>")]
pub struct Attachment(
    /// The parts, separated by slashes.
    Arc<str>,
);

/// The parts of an [`Attachment`] as they are written, and before they are validated.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Attachment")] // as errors call it
struct Parts<T> {
    #[serde(rename = "containerID")]
    container_id: T,
    network: T,
    ifname: T,
}

/// Why an [`Attachment`] could not be made: which of its parts is invalid, and what is wrong with
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAttachment {
    part: &'static str,
    problem: String,
}

impl Attachment {
    /// Validates the three parts.
    ///
    /// # Errors
    /// If a part is invalid. Container IDs and network names consist of letters, digits, `_`, `.`
    /// and `-`, and begin with a letter or digit. Interface names must be names that the kernel
    /// accepts.
    pub fn new(
        container_id: impl Into<String>,
        network: impl Into<String>,
        ifname: impl Into<String>,
    ) -> Result<Attachment, InvalidAttachment> {
        let (container_id, network, ifname) = (container_id.into(), network.into(), ifname.into());
        let invalid = |part| move |problem| InvalidAttachment { part, problem };
        validate::identifier(&container_id).map_err(invalid("containerID"))?;
        validate::identifier(&network).map_err(invalid("network"))?;
        validate::interface_name(&ifname).map_err(invalid("ifname"))?;
        Ok(Attachment(
            format!("{container_id}/{network}/{ifname}").into(),
        ))
    }

    /// The container's ID: CNI_CONTAINERID.
    pub fn container_id(&self) -> &str {
        self.part(0)
    }

    /// The network's name: `name` in the configuration.
    pub fn network(&self) -> &str {
        self.part(1)
    }

    /// The interface's name in the container: CNI_IFNAME.
    pub fn ifname(&self) -> &str {
        self.part(2)
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = Parts {
            container_id: self.container_id(),
            network: self.network(),
            ifname: self.ifname(),
        };
        parts.serialize(serializer)
    }
}

impl TryFrom<Parts<String>> for Attachment {
    type Error = InvalidAttachment;

    fn try_from(parts: Parts<String>) -> Result<Attachment, InvalidAttachment> {
        Attachment::new(parts.container_id, parts.network, parts.ifname)
    }
}

impl fmt::Display for InvalidAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.problem)
    }
}

impl std::error::Error for InvalidAttachment {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attachment_survives_writing_and_reading() {
        let attachment = Attachment::new("c1", "lan", "eth0").unwrap();
        let written = serde_json::to_value(&attachment).unwrap();
        assert_eq!(
            written,
            json!({ "containerID": "c1", "network": "lan", "ifname": "eth0" })
        );
        assert_eq!(
            serde_json::from_value::<Attachment>(written).unwrap(),
            attachment
        );
        assert_eq!(attachment.to_string(), "c1/lan/eth0");
        let parts = (
            attachment.container_id(),
            attachment.network(),
            attachment.ifname(),
        );
        assert_eq!(parts, ("c1", "lan", "eth0"));
    }

    #[test]
    fn an_error_names_the_part_that_is_invalid() {
        for (container_id, network, ifname, part) in [
            ("../c1", "lan", "eth0", "containerID"),
            ("c1", "", "eth0", "network"),
            ("c1", "lan", "eth0/..", "ifname"),
            ("c1", "lan", "eth\0", "ifname"),
        ] {
            let error = Attachment::new(container_id, network, ifname).unwrap_err();
            assert!(error.to_string().starts_with(part), "{error}");
            let written =
                json!({ "containerID": container_id, "network": network, "ifname": ifname });
            let error = serde_json::from_value::<Attachment>(written).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
