//! Attachments: one interface of one container on one network.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::validate;

/// One interface of one container on one network: what the operations of a plugin are about, and
/// what identifies them (spec §1, "Parameters").
///
/// Its parts are valid, so each can stand in a file's name: none is empty, a path of its own, or
/// holds a slash, a colon or a NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
    network: String,
    ifname: String,
}

/// The parts of an [`Attachment`] before they are validated.
#[derive(Deserialize)]
struct Parts {
    #[serde(rename = "containerID")]
    container_id: String,
    network: String,
    ifname: String,
}

/// A part of an attachment that CNI does not allow, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAttachment {
    part: &'static str,
    why: String,
}

impl Attachment {
    /// The attachment of this interface of this container to this network.
    ///
    /// # Errors
    /// If a part is not valid: container IDs and network names are letters, digits, `_`, `.` and
    /// `-`, beginning with a letter or digit; interface names are such as the kernel takes.
    pub fn new(
        container_id: impl Into<String>,
        network: impl Into<String>,
        ifname: impl Into<String>,
    ) -> Result<Attachment, InvalidAttachment> {
        let (container_id, network, ifname) = (container_id.into(), network.into(), ifname.into());
        let invalid = |part| move |why| InvalidAttachment { part, why };
        validate::identifier(&container_id).map_err(invalid("containerID"))?;
        validate::identifier(&network).map_err(invalid("network"))?;
        validate::interface_name(&ifname).map_err(invalid("ifname"))?;
        Ok(Attachment {
            container_id,
            network,
            ifname,
        })
    }

    /// CNI_CONTAINERID of its ADD.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// `name` of the network configuration.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// CNI_IFNAME of its ADD.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.container_id, self.network, self.ifname)
    }
}

impl TryFrom<Parts> for Attachment {
    type Error = InvalidAttachment;

    fn try_from(parts: Parts) -> Result<Attachment, InvalidAttachment> {
        Attachment::new(parts.container_id, parts.network, parts.ifname)
    }
}

impl fmt::Display for InvalidAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.why)
    }
}

impl std::error::Error for InvalidAttachment {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attachment_is_read_as_it_is_written() {
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
    }

    #[test]
    fn a_part_that_cni_does_not_allow_is_named() {
        for (container_id, network, ifname, part) in [
            ("../c1", "lan", "eth0", "containerID"),
            ("c1", "", "eth0", "network"),
            ("c1", "lan", "eth0/..", "ifname"),
            ("c1", "lan", "eth\0", "ifname"),
        ] {
            let refused = Attachment::new(container_id, network, ifname).unwrap_err();
            assert!(refused.to_string().starts_with(part), "{refused}");
            let written =
                json!({ "containerID": container_id, "network": network, "ifname": ifname });
            let refused = serde_json::from_value::<Attachment>(written).unwrap_err();
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
}
