//! The daemon as an operator sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::params::seconds;

/// What the daemon does at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonView {
    /// The release.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// For how long it has run.
    #[serde(with = "seconds")]
    pub uptime: Option<Duration>,
    /// Where its leases are on disk.
    pub state_dir: PathBuf,
    /// What its leases are.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The leases in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How many clients are in each state of RFC 2131.
    pub states: BTreeMap<String, usize>,
    /// The time until the next lease is due for maintenance; absent if none ever is.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Duration>,
    /// How many ADDs have failed in the last hour, and how many leases were lost.
    pub failures: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.states.values().sum();
        match total {
            0 => f.write_str("no leases")?,
            1 => f.write_str("1 lease")?,
            _ => write!(f, "{total} leases")?,
        }
        let states = self.states.iter();
        let states: Vec<_> = states
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        if !states.is_empty() {
            write!(f, " ({})", states.join(", "))?;
        }
        match self.failures {
            0 => Ok(()),
            1 => f.write_str(", 1 failure in the last hour"),
            failures => write!(f, ", {failures} failures in the last hour"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_line_for_people() {
        let summary = |states: &[(&str, usize)], failures| {
            let states = states
                .iter()
                .map(|(state, count)| ((*state).to_owned(), *count));
            Summary {
                states: states.collect(),
                failures,
                ..Summary::default()
            }
            .to_string()
        };
        assert_eq!(summary(&[], 0), "no leases");
        assert_eq!(summary(&[("BOUND", 1)], 0), "1 lease (1 BOUND)");
        assert_eq!(
            summary(&[("BOUND", 11), ("REBINDING", 1)], 2),
            "12 leases (11 BOUND, 1 REBINDING), 2 failures in the last hour"
        );
        assert_eq!(summary(&[], 1), "no leases, 1 failure in the last hour");
    }
}
