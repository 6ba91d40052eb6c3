//! `dhcp leases`.

use std::path::Path;
use std::time::Duration;

use cni::Attachment;

use super::advice;
use crate::plugin::client::{ask, unexpected};
use crate::protocol::{LeaseView, Reply, Verb};

/// How many characters of a container's ID are shown, as runtimes do it.
const SHORT_ID: usize = 12;

const COLUMNS: [&str; 10] = [
    "NAME",
    "CONTAINER",
    "NETWORK",
    "INTERFACE",
    "ADDRESS",
    "MAC",
    "SERVER",
    "STATE",
    "RENEWS IN",
    "EXPIRES IN",
];

/// The leases of the daemon on `socket`, as a table or as JSON. If there are `ids`, only those of
/// containers whose ID begins with one of them, or whose name is one.
///
/// # Errors
/// If the daemon does not answer, or no lease is one of `ids`.
pub(super) fn leases(socket: &Path, ids: &[String], json: bool) -> Result<Vec<String>, String> {
    let leases = chosen(socket, ids)?;
    if json {
        let document = serde_json::to_string_pretty(&leases);
        let document = document.map_err(|error| error.to_string())?;
        return Ok(document.lines().map(str::to_owned).collect());
    }
    Ok(table(&leases))
}

/// The leases that these IDs choose; all of them if there are none.
///
/// # Errors
/// As for [`leases`].
pub(super) fn chosen(socket: &Path, ids: &[String]) -> Result<Vec<LeaseView>, String> {
    let mut leases = all(socket)?;
    if !ids.is_empty() {
        leases.retain(|lease| ids.iter().any(|id| is_of(lease, id)));
        if let Some(id) = ids
            .iter()
            .find(|id| !leases.iter().any(|lease| is_of(lease, id)))
        {
            return Err(format!("no lease is of a container {id}"));
        }
    }
    Ok(leases)
}

/// Asks the daemon again until it has no more.
fn all(socket: &Path) -> Result<Vec<LeaseView>, String> {
    let mut all: Vec<LeaseView> = Vec::new();
    loop {
        let after: Option<Attachment> = all.last().map(|lease| lease.attachment.clone());
        match ask(socket, Verb::Leases { after }, None, None) {
            Ok(Reply::Leases { leases, more }) => {
                let is_more = more && !leases.is_empty();
                all.extend(leases);
                if !is_more {
                    return Ok(all);
                }
            }
            Ok(other) => return Err(unexpected(&other).to_string()),
            Err(failure) => return Err(advice::of_failure(failure)),
        }
    }
}

/// Whether an operator means this lease's container.
fn is_of(lease: &LeaseView, id: &str) -> bool {
    lease.name.as_deref() == Some(id) || lease.attachment.container_id().starts_with(id)
}

/// A line for each lease below the columns' names, and then what keeps leases from being bound.
fn table(leases: &[LeaseView]) -> Vec<String> {
    if leases.is_empty() {
        return vec!["no leases".to_owned()];
    }
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(leases.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS.len()).filter_map(width).collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let cells = cells.map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    lines.extend(leases.iter().filter_map(|lease| {
        let problem = lease.problem.as_deref()?;
        Some(format!("{}: {problem}", lease.attachment))
    }));
    lines
}

fn row(lease: &LeaseView) -> [String; COLUMNS.len()] {
    let attachment = &lease.attachment;
    let granted = lease.granted.as_ref();
    let none = || "-".to_owned();
    let in_time = |time: Option<Duration>, otherwise: &str| {
        time.map_or_else(|| otherwise.to_owned(), spelled)
    };
    [
        lease.name.clone().unwrap_or_else(none),
        attachment.container_id().chars().take(SHORT_ID).collect(),
        attachment.network().to_owned(),
        attachment.ifname().to_owned(),
        granted.map_or_else(none, |granted| granted.address.to_string()),
        lease.mac.to_string(),
        granted.map_or_else(none, |granted| granted.server.to_string()),
        lease.state.clone(),
        granted.map_or_else(none, |granted| in_time(granted.renews_in, "-")),
        granted.map_or_else(none, |granted| in_time(granted.expires_in, "never")),
    ]
}

/// A time in its two largest units.
pub(super) fn spelled(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (1.., _, _) => format!("{days}d {}h", hours % 24),
        (_, 1.., _) => format!("{hours}h {}min", minutes % 60),
        (_, _, 1..) => format!("{minutes}min {}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Granted;
    use crate::state::tests::record;

    fn lease(id: &str, name: Option<&str>) -> LeaseView {
        LeaseView {
            attachment: Attachment::new(id, "lan", "eth0").expect("valid"),
            name: name.map(str::to_owned),
            mac: "02:00:00:00:00:01".parse().expect("a MAC"),
            state: "BOUND".to_owned(),
            netns: "/run/netns/c1".to_owned(),
            granted: Some(Granted {
                address: "10.99.0.100/24".parse().expect("an address"),
                gateway: None,
                server: record().lease.server_id,
                since: Some(Duration::from_secs(10)),
                renews_in: Some(Duration::from_secs(1790)),
                expires_in: Some(Duration::from_secs(3590)),
            }),
            problem: None,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_lease_and_what_is_wrong_below() {
        let mut lost = lease("c2", None);
        (lost.granted, lost.state) = (None, "SELECTING".to_owned());
        lost.problem = Some("sent 3 DISCOVER, received 0 frames".to_owned());
        let mut forever = lease("c3", None);
        if let Some(granted) = &mut forever.granted {
            (granted.renews_in, granted.expires_in) = (None, None);
        }
        let id = "0123456789abcdef0123456789abcdef";
        let shown = table(&[lease(id, Some("web-0")), lost, forever]);
        let expected = "\
NAME   CONTAINER     NETWORK  INTERFACE  ADDRESS         MAC                SERVER     STATE      RENEWS IN  EXPIRES IN
web-0  0123456789ab  lan      eth0       10.99.0.100/24  02:00:00:00:00:01  10.99.0.1  BOUND      29min 50s  59min 50s
-      c2            lan      eth0       -               02:00:00:00:00:01  -          SELECTING  -          -
-      c3            lan      eth0       10.99.0.100/24  02:00:00:00:00:01  10.99.0.1  BOUND      -          never
c2/lan/eth0: sent 3 DISCOVER, received 0 frames";
        assert_eq!(shown.join("\n"), expected);
        assert_eq!(table(&[]), ["no leases"]);
    }

    #[test]
    fn a_container_is_meant_by_its_name_and_by_the_beginning_of_its_id() {
        let lease = lease("0123456789abcdef", Some("web-0"));
        for id in ["web-0", "0123", "0123456789abcdef"] {
            assert!(is_of(&lease, id), "{id}");
        }
        for id in ["web", "web-01", "1234", "0123456789abcdef0"] {
            assert!(!is_of(&lease, id), "{id}");
        }
    }

    #[test]
    fn a_time_is_spelled_in_its_two_largest_units() {
        let spelled = |seconds| spelled(Duration::from_secs(seconds));
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1min 0s"),
            (3599, "59min 59s"),
            (3600, "1h 0min"),
            (86399, "23h 59min"),
            (90000, "1d 1h"),
        ] {
            assert_eq!(spelled(seconds), text);
        }
    }

    #[test]
    fn json_has_every_field_once() {
        let document = serde_json::to_value([lease("c1", Some("web-0"))]).expect("JSON");
        assert_eq!(
            document[0],
            serde_json::json!({
                "containerID": "c1", "network": "lan", "ifname": "eth0", "name": "web-0", "mac": "02:00:00:00:00:01",
                "state": "BOUND", "netns": "/run/netns/c1", "address": "10.99.0.100/24",
                "server": "10.99.0.1", "since": 10.0, "renewsIn": 1790.0, "expiresIn": 3590.0,
            })
        );
    }
}
