//! The content of a lease's file.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cni::{Attachment, json_problem};
use dhcp4::Lease;
use linknet::Mac;
use serde::{Deserialize, Serialize};

use super::interface_ref::InterfaceRef;
use crate::protocol::LeaseParams;

/// The version of the files.
const VERSION: u32 = 1;

/// A lease as it is written to disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// The boot in which it was written: the lease's times count from then.
    boot_id: String,
    /// The attachment that the lease is for.
    pub attachment: Attachment,
    /// Whether the lease is in force.
    #[serde(rename = "standing")]
    pub(crate) status: LeaseStatus,
    /// The interface that has the address.
    #[serde(rename = "place")]
    pub interface: InterfaceRef,
    /// The parameters of the lease.
    #[serde(rename = "terms")]
    pub params: LeaseParams,
    /// The lease.
    pub lease: Lease,
    /// The MAC that the server, or the relay before it, last sent from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_mac: Option<Mac>,
    /// The interface's MTU; absent in the files of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<Mtu>,
    /// The daemon cannot find the netns by its path, and keeps it open until DEL or GC. When the
    /// daemon stops, the lease is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    netns_kept: bool,
    /// DEL or GC has ended the attachment, so an abandoned lease must be released rather than taken
    /// up again if its interface still exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    detached: bool,
    /// When the lease ends, by the calendar; absent if it never ends.
    #[serde(default, with = "calendar", skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<SystemTime>,
}

/// The MTUs that an interface should have. If it has another, somebody has set it on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mtu {
    /// The interface's own, which it had before its lease.
    pub(crate) own: u32,
    /// The server's, if it was set instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<u32>,
}

/// Whether a lease is in force. The files have older words for it, which a daemon of an earlier
/// release understands after a downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseStatus {
    /// The lease is in force.
    #[serde(rename = "held")]
    Active,
    /// The container is gone, or was detached while no daemon ran; the server has not been told.
    #[serde(rename = "left")]
    Abandoned,
    /// The address was lost. The container still exists, and the daemon requests another address.
    Lost,
    /// It was released. The record is kept to ask for the same address again.
    Released,
}

impl Record {
    /// Reads a lease's file.
    ///
    /// # Errors
    /// Why it is not a record of this version.
    pub fn parse(document: &[u8]) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(document).map_err(|error| json_problem(&error))?;
        if version != VERSION {
            return Err(format!(
                "the file has version {version}, but this daemon reads version {VERSION}"
            ));
        }
        serde_json::from_slice(document).map_err(|error| json_problem(&error))
    }

    /// An active lease, as of now.
    pub fn new(
        attachment: Attachment,
        interface: InterfaceRef,
        params: LeaseParams,
        lease: Lease,
        server_mac: Option<Mac>,
    ) -> Record {
        let now = dhcp4::Instant::from_boot(linknet::boottime());
        let remaining = lease.remaining(now);
        Record {
            version: VERSION,
            boot_id: boot_id().unwrap_or_default().to_owned(),
            attachment,
            status: LeaseStatus::Active,
            interface,
            params,
            expires: remaining
                .and_then(|remaining| SystemTime::now().checked_add(remaining))
                .map(whole_seconds),
            lease,
            server_mac,
            mtu: None,
            netns_kept: false,
            detached: false,
        }
    }

    /// The record with a note on whether the daemon has to keep the netns open.
    pub(crate) fn with_netns_kept(self, netns_kept: bool) -> Record {
        Record { netns_kept, ..self }
    }

    /// The record with the interface's MTU.
    pub(crate) fn with_mtu(self, mtu: Option<Mtu>) -> Record {
        Record { mtu, ..self }
    }

    /// The record with another status.
    pub(crate) fn with_status(self, status: LeaseStatus) -> Record {
        Record { status, ..self }
    }

    /// The record of a lease that is abandoned because DEL or GC has ended the attachment.
    pub(crate) fn detached(self) -> Record {
        Record {
            status: LeaseStatus::Abandoned,
            detached: true,
            ..self
        }
    }

    /// Whether DEL or GC has ended the attachment while the server could not be told.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached
    }

    /// Whether it was written since the machine booted, so that its times and its netns are valid;
    /// `None` if that is unknown, because the boot's identifier cannot be read, or could not be.
    pub(crate) fn is_of_this_boot(&self) -> Option<bool> {
        let current = boot_id().filter(|_| !self.boot_id.is_empty())?;
        Some(self.boot_id == current)
    }

    /// Whether the lease has ended, by the calendar.
    pub fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }
}

/// The kernel's identifier of this boot; `None` if it cannot be read at the moment.
fn boot_id() -> Option<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if BOOT_ID.get().is_none() {
        match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => drop(BOOT_ID.set(id.trim().to_owned())),
            Err(error) => {
                tracing::warn!(%error, "cannot read the boot's identifier; leases are known by their interfaces alone");
            }
        }
    }
    BOOT_ID.get().map(String::as_str)
}

/// The time without fractions of a second, as it is written.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

/// Points in time as people write them (RFC 3339).
mod calendar {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&humantime::format_rfc3339_seconds(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(de::Error::custom))
            .transpose()
    }
}
