//! `daemonSocketPath`, `stateDir` and `autostart`: where the daemon is.

use std::path::PathBuf;

use cni::Error;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Source;
use crate::protocol::DEFAULT_SOCKET;
use crate::state::StateDir;

/// Where the daemon listens, and where it keeps its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaemonLocation {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// Its leases.
    pub(crate) state: StateDir,
    /// Whether to start one if none listens.
    pub(crate) autostart: bool,
}

/// The keys that DEL needs. It reads no others, so that a mistake in them does not keep a container
/// from being removed.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Keys {
    daemon_socket_path: String,
    state_dir: String,
    autostart: bool,
}

/// The names of the keys.
pub(super) fn keys() -> &'static [&'static str] {
    cni::go::field_names::<Keys>()
}

impl DaemonLocation {
    /// Whether a daemon runs here at times: it has left its socket or its state directory.
    pub(crate) fn is_in_use(&self) -> bool {
        self.socket.exists() || self.state.path().exists()
    }

    /// Reads these keys of a section.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7) if a key is of the wrong type.
    pub(super) fn of(section: &Map<String, Value>) -> Result<DaemonLocation, Error> {
        let keys: Keys = Source::Ipam.decode(section)?;
        let socket = match keys.daemon_socket_path.as_str() {
            "" => PathBuf::from(DEFAULT_SOCKET),
            path => path.into(),
        };
        let state = match keys.state_dir.as_str() {
            "" => StateDir::found(&socket),
            path => StateDir::at(path.into()),
        };
        Ok(DaemonLocation {
            socket,
            state,
            autostart: keys.autostart,
        })
    }
}
