//! Files as earlier releases wrote them, word for word, and files that are in the way.

use std::ffi::OsStr;
use std::fs;
use std::io::Seek;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use super::interface_ref::tests::loopback;
use super::*;
use crate::protocol::ReleasePolicy;

/// How every file begins.
const HEAD: &str = r#"{
  "version": 1,
  "bootId": "f9380acb-58a8-4729-834a-692be7857209",
  "attachment": { "containerID": "c1", "network": "lan", "ifname": "eth0" },
  "standing": "STATUS",
  "place": {
    "path": "/run/netns/c1",
    "netns": { "dev": 4, "ino": 4026532178 },
    "ifname": "eth0",
    "ifindex": 2,
    "mac": "96:11:07:94:fa:6b"
  },"#;

/// The rest of a file with every optional field.
const FULL: &str = r#"
  "terms": {
    "clientId": { "sent": "0063312f6c616e2f65746830" },
    "request": [1, 121, 33, 3, 6],
    "provide": [{ "code": 60, "data": "0102" }],
    "requestedAddress": "10.99.0.100",
    "servers": { "allow": ["10.99.0.1"], "deny": ["10.99.0.2"] },
    "broadcast": true,
    "rapidCommit": true,
    "conflictDetection": "fast",
    "announce": true,
    "timeout": 20.5,
    "suppress": ["gateway", "routes", "dns", "mtu"],
    "routes": [
      { "dst": "10.0.0.0/8", "gw": "10.99.0.1", "mtu": 1400, "advmss": 1300, "priority": 5, "table": 7, "scope": 0 },
      { "dst": "fd00::/8" }
    ],
    "priority": 100,
    "sourceRouting": 50,
    "hostAccess": true
  },
  "lease": {
    "address": "10.99.0.100",
    "prefix_len": 24,
    "server_id": "10.99.0.1",
    "requested_at": { "secs": 7560, "nanos": 804640211 },
    "lifetime": { "secs": 120, "nanos": 0 },
    "t1": { "secs": 60, "nanos": 0 },
    "t2": { "secs": 105, "nanos": 0 },
    "options": {
      "routers": ["10.99.0.1"],
      "static_routes": [],
      "classless_routes": [{ "dst": "0.0.0.0/0", "gateway": "10.99.0.1" }],
      "dns": ["10.99.0.1"],
      "domain": "lan.example",
      "search": ["lan.example"],
      "ntp": ["10.99.0.1"],
      "mtu": 1400,
      "broadcast": "10.99.0.255",
      "hostname": "c1",
      "ipv6_only_wait": { "secs": 300, "nanos": 0 },
      "raw": [{ "code": 53, "data": "05" }]
    }
  },
  "serverMac": "02:00:00:00:00:01",
  "netnsKept": true,
  "expires": "2026-11-28T12:00:00Z"
}"#;

/// The rest of a file without any optional field: a lease without end, with the fewest parameters.
const MINIMAL: &str = r#"
  "terms": { "clientId": "none", "request": [], "conflictDetection": "off", "announce": false },
  "lease": {
    "address": "10.99.0.100",
    "prefix_len": 24,
    "server_id": "10.99.0.1",
    "requested_at": { "secs": 7560, "nanos": 804640211 },
    "lifetime": null,
    "t1": null,
    "t2": null,
    "options": {}
  }
}"#;

const STATUSES: [(&str, LeaseStatus); 4] = [
    ("held", LeaseStatus::Active),
    ("lost", LeaseStatus::Lost),
    ("left", LeaseStatus::Abandoned),
    ("released", LeaseStatus::Released),
];

/// The record of an active lease.
pub(crate) fn record() -> Record {
    Record::parse(file(MINIMAL, "held").as_bytes()).unwrap()
}

/// The record of an active lease of another attachment.
pub(crate) fn record_of(container: &str, network: &str) -> Record {
    let document = file(MINIMAL, "held");
    let document = document.replace("\"c1\"", &format!("{container:?}"));
    let document = document.replace("\"lan\"", &format!("{network:?}"));
    Record::parse(document.as_bytes()).unwrap()
}

/// The record of a lease that has expired.
pub(crate) fn expired_record() -> Record {
    let mut record = record();
    record.lease.requested_at = dhcp4::Instant::BOOT;
    record.lease.lifetime = Some(Duration::ZERO);
    Record::new(
        record.attachment,
        record.interface,
        record.params,
        record.lease,
        None,
    )
}

/// A whole file, with this word for the lease's status.
fn file(rest: &str, status: &str) -> String {
    HEAD.replace("STATUS", status) + rest
}

#[test]
fn files_of_earlier_releases_are_read_and_written_in_their_format() {
    for rest in [FULL, MINIMAL] {
        for (word, status) in STATUSES {
            let document = file(rest, word);
            let record = Record::parse(document.as_bytes()).unwrap();
            assert_eq!(record.status, status);
            assert_eq!(record.attachment.to_string(), "c1/lan/eth0");
            assert_eq!(record.interface.mac.to_string(), "96:11:07:94:fa:6b");

            let mut before: Value = serde_json::from_str(&document).unwrap();
            let mut after = serde_json::to_value(&record).unwrap();
            // What else a server sent is dhcp4's to read and write.
            for lease in [&mut before, &mut after] {
                lease["lease"]["options"] = json!(null);
            }
            assert_eq!(after, before, "{word}");
        }
    }
}

#[test]
fn optional_fields_have_their_values_or_none() {
    let full = Record::parse(file(FULL, "held").as_bytes()).unwrap();
    assert_eq!(full.server_mac.unwrap().to_string(), "02:00:00:00:00:01");
    assert!(full.has_expired() && !full.params.host_access.is_off());
    let minimal = Record::parse(file(MINIMAL, "held").as_bytes()).unwrap();
    assert_eq!((minimal.server_mac, minimal.expires), (None, None));
    assert!(!minimal.has_expired() && minimal.params.host_access.is_off());
    // An earlier release's container may share its identity.
    assert_eq!(minimal.params.release, ReleasePolicy::IfUnused);
}

#[test]
fn another_version_and_an_attachment_that_cni_does_not_allow_are_refused_by_name() {
    let document = file(MINIMAL, "held");
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 99", "version 99"),
        ("\"c1\"", "\"../../c1\"", "containerID"),
        ("held", "somewhere", "somewhere"),
    ] {
        let refused = Record::parse(document.replace(from, to).as_bytes()).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn a_boot_whose_identifier_is_unknown_is_not_another_boot() {
    assert_eq!(record().is_of_this_boot(), Some(false));
    let document = file(MINIMAL, "held").replace("f9380acb-58a8-4729-834a-692be7857209", "");
    let unknown = Record::parse(document.as_bytes()).unwrap();
    assert_eq!(unknown.is_of_this_boot(), None);
}

#[test]
fn a_new_record_is_read_as_it_was_written() {
    let mut lease = record().lease;
    lease.lifetime = Some(Duration::from_secs(1 << 30));
    let from = record();
    let record = Record::new(from.attachment, from.interface, from.params, lease, None);
    let written = serde_json::to_vec(&record).unwrap();
    assert_eq!(Record::parse(&written).unwrap(), record);
    assert_eq!(record.is_of_this_boot(), Some(true));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["bootId"], boot.trim());
}

#[test]
fn leases_of_any_attachment_that_cni_allows_are_written_and_read_again() {
    let (scratch, state) = scratch();
    for (container, network) in [
        ("c1".to_owned(), "lan".to_owned()),
        ("c1".to_owned(), "lock".to_owned()),
        ("c1".to_owned(), "log".to_owned()),
        ("c1".to_owned(), "n".repeat(256)),
        ("c".repeat(255), "lan".to_owned()),
    ] {
        let record = record_of(&container, &network);
        state.write(&record).unwrap();
        assert_eq!(state.read(&record.attachment).unwrap(), Some(record));
    }
    assert!(scratch.path().join("lan/c1:eth0.json").is_file());
    // As long as a name may be; the file of a longer one is named by a hash.
    let longest = record_of(&"c".repeat(245), &"n".repeat(255)).attachment;
    assert!(
        state
            .file(&longest)
            .ends_with(format!("{}:eth0.json", "c".repeat(245)))
    );
    for (container, network) in [(246, 255), (245, 256)] {
        let longer = record_of(&"c".repeat(container), &"n".repeat(network)).attachment;
        let file = state.file(&longer);
        assert_eq!(file.extension().and_then(OsStr::to_str), Some("lease"));
    }
    assert!(
        state.lock().unwrap().is_some(),
        "its file is not in the way"
    );
    let (records, unread) = load(&state);
    assert_eq!((records.len(), unread.len()), (5, 0));
}

#[test]
fn plugins_share_the_lock_and_a_daemon_excludes_them_and_is_named_in_the_file() {
    let (scratch, state) = scratch();
    let file = scratch.path().join("lock");
    let plugins = [state.lock_shared().unwrap(), state.lock_shared().unwrap()];
    assert!(plugins.iter().all(Option::is_some));
    assert!(state.lock().unwrap().is_none());
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    drop(plugins);

    fs::write(&file, "a longer line of an earlier release\n").unwrap();
    let daemon = state.lock().unwrap();
    assert!(daemon.is_some() && state.lock_shared().unwrap().is_none());
    let pid = format!("{}\n", std::process::id());
    assert_eq!(fs::read_to_string(&file).unwrap(), pid);
    // These tests are not called `dhcp daemon`.
    assert_eq!(state.daemon_with_lock(), None);
}

#[test]
fn all_records_are_read_without_changing_anything() {
    let (scratch, state) = scratch();
    let records = [record_of("c1", "lan"), record_of("c2", &"n".repeat(256))];
    for record in &records {
        state.write(record).unwrap();
    }
    let half_written = scratch.path().join("lan/.x.new");
    let bad = scratch.path().join("lan/c3:eth0.json");
    for file in [&half_written, &bad] {
        fs::write(file, "{").unwrap();
    }
    let read = state.records().unwrap();
    assert!(read.len() == 2 && records.iter().all(|record| read.contains(record)));
    assert!(half_written.exists() && bad.exists());
}

#[test]
fn what_cannot_be_read_keeps_its_name_and_is_read_later() {
    let (scratch, state) = scratch();
    let record = record();
    let file = state.file(&record.attachment);
    let network = scratch.path().join("other");
    fs::create_dir(file.parent().unwrap()).unwrap();
    // A link to itself is followed for ever, which the kernel refuses.
    for path in [&file, &network] {
        symlink(path, path).unwrap();
    }
    let (records, unread) = load(&state);
    assert!(records.is_empty());
    assert_eq!(unread.len(), 2, "{unread:?}");

    state.write(&record).unwrap();
    let mut records = Vec::new();
    let unread = state.load_again(unread, |record| records.push(record));
    assert_eq!((records, unread), (vec![record], vec![network]));
}

#[test]
fn what_cannot_be_read_is_logged_with_its_path() {
    let (scratch, state) = scratch();
    let directory = scratch.path().join("other");
    symlink(&directory, &directory).unwrap();
    let mut log = tempfile::tempfile().unwrap();
    let writer = Arc::new(log.try_clone().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    let (_, unread) = tracing::subscriber::with_default(subscriber, || load(&state));
    assert_eq!(unread, std::slice::from_ref(&directory));
    log.rewind().unwrap();
    let log = std::io::read_to_string(log).unwrap();
    assert!(
        log.contains("cannot read leases") && log.contains(&*directory.to_string_lossy()),
        "{log}"
    );
}

#[test]
fn what_is_not_a_file_is_ignored_without_waiting() {
    let (_scratch, state) = scratch();
    let record = record();
    let pipe = state.file(&record.attachment);
    fs::create_dir(pipe.parent().unwrap()).unwrap();
    let _socket = UnixListener::bind(pipe.with_file_name("s:eth0.json")).unwrap();
    fs::create_dir(pipe.with_file_name("d:eth0.json")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let (records, unread) = load(&state);
    assert!(records.is_empty() && unread.is_empty());
    assert_eq!(state.read(&record.attachment).unwrap(), None);
    state.write(&record).unwrap();
    assert_eq!(state.read(&record.attachment).unwrap(), Some(record));
}

fn load(state: &StateDir) -> (Vec<Record>, Vec<PathBuf>) {
    let mut records = Vec::new();
    let unread = state.load(|record| records.push(record)).unwrap();
    (records, unread)
}

fn scratch() -> (tempfile::TempDir, StateDir) {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::at(directory.path().to_owned());
    (directory, state)
}

#[test]
fn a_record_notes_that_its_attachment_has_ended_and_what_the_daemon_knows_of_the_interface() {
    let record = record();
    assert!(!record.is_detached());
    let mtu = Some(Mtu {
        own: 1500,
        set: Some(1400),
    });
    let ended = record.with_mtu(mtu).with_netns_kept(true).detached();
    assert!(ended.is_detached());
    let document = serde_json::to_value(&ended).unwrap();
    assert_eq!(document["netnsKept"], json!(true));
    let read = Record::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!((&read, read.mtu), (&ended, mtu));
    assert_eq!(read.status, LeaseStatus::Abandoned);
}
