//! The leases and the daemon as an operator sees them.

use std::collections::BTreeMap;
use std::rc::Rc;

use cni::Attachment;
use dhcp4::StateName;

use super::lease::whole_seconds;
use super::slot::Slot;
use super::table::Table;
use crate::daemon::exchange::now;
use crate::protocol::{DaemonView, LeaseView, Summary};

/// How many leases are listed at a time, so that nobody else waits for long.
const PAGE: usize = 64;

/// The leases after that of an attachment, in the order of attachments, and whether there are more.
/// Of a member of the group that `-group` admits, those that it has requested.
pub(crate) fn list(
    table: &Table,
    after: Option<&Attachment>,
    member: Option<u32>,
) -> (Vec<LeaseView>, bool) {
    let mut slots = table.slots();
    slots.retain(|slot| after.is_none_or(|after| slot.attachment > *after));
    slots.retain(|slot| member.is_none() || slot.member() == member);
    let is_more = slots.len() > PAGE;
    if is_more {
        slots.select_nth_unstable_by(PAGE, |one, other| one.attachment.cmp(&other.attachment));
        slots.truncate(PAGE);
    }
    slots.sort_unstable_by(|one, other| one.attachment.cmp(&other.attachment));
    (slots.iter().filter_map(view).collect(), is_more)
}

/// The lease of an attachment, if it has one.
pub(crate) fn one(table: &Table, attachment: &Attachment) -> Vec<LeaseView> {
    table.get(attachment).iter().filter_map(view).collect()
}

/// What the daemon is doing.
pub(crate) fn describe(table: &Table) -> DaemonView {
    DaemonView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime: Some(whole_seconds(now().since(table.started))),
        state_dir: table.store.directory().to_owned(),
        summary: summary(table),
    }
}

/// The leases in numbers.
pub(crate) fn summary(table: &Table) -> Summary {
    let now = now();
    let mut states: BTreeMap<StateName, usize> = BTreeMap::new();
    let mut next_due = None;
    for lease in table.slots().iter().filter_map(|slot| slot.leases().next()) {
        *states.entry(lease.state()).or_default() += 1;
        next_due = next_due.into_iter().chain(lease.due()).min();
    }
    let states = states.into_iter();
    Summary {
        states: states
            .map(|(state, count)| (state.to_string(), count))
            .collect(),
        next_due: next_due.map(|due| whole_seconds(due.since(now))),
        failures: table.failures.recent(now),
    }
}

/// `None` if the slot has no lease, and nobody seeks one.
fn view(slot: &Rc<Slot>) -> Option<LeaseView> {
    slot.leases().next().map(|lease| lease.view())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::leases::lease::tests::{lease_of, lost_lease_of};
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record;

    /// A table in which every second lease is a member's.
    fn crowd(directory: &tempfile::TempDir, size: usize) -> Table {
        let table = table(directory);
        for number in 0..size {
            let mut record = record();
            record.attachment = Attachment::new(format!("c{number:03}"), "lan", "eth0").unwrap();
            record.params.member = (number % 2 == 1).then_some(1000);
            let slot = table.get_or_create(&record.attachment);
            table.put(&slot, Rc::new(lease_of(record)));
        }
        table
    }

    #[tokio::test]
    async fn pages_list_every_lease_once_and_in_order() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = crowd(&directory, 2 * PAGE + 1);
        let (mut all, mut pages) = (Vec::new(), 0);
        loop {
            let after: Option<&LeaseView> = all.last();
            let (page, is_more) = list(&table, after.map(|last| &last.attachment), None);
            all.extend(page);
            pages += 1;
            if !is_more {
                break;
            }
        }
        assert_eq!((all.len(), pages), (2 * PAGE + 1, 3));
        let ids = all.iter().map(|view| view.attachment.container_id());
        assert!(ids.is_sorted() && all[0].granted.is_some());
    }

    #[tokio::test]
    async fn the_summary_counts_leases_by_state_and_recent_failures() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = crowd(&directory, 3);
        let slot = table.get_or_create(&record().attachment);
        table.put(&slot, Rc::new(lost_lease_of(record())));
        table.failures.note(now());
        let described = describe(&table);
        let states = &described.summary.states;
        assert_eq!(states.get("BOUND"), Some(&3), "{states:?}");
        assert_eq!(states.values().sum::<usize>(), 4);
        assert_eq!(described.summary.failures, 1);
        assert!(described.summary.next_due.is_some());
        assert_eq!(described.state_dir, directory.path());
    }

    #[tokio::test]
    async fn a_member_sees_its_own_leases_only() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = crowd(&directory, 4);
        let listed = |member| {
            let (leases, _) = list(&table, None, member);
            let ids = leases
                .iter()
                .map(|view| view.attachment.container_id().to_owned());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(listed(Some(1000)), ["c001", "c003"]);
        assert_eq!(listed(Some(1001)), [""; 0]);
        assert_eq!(listed(None).len(), 4);
    }

    #[tokio::test]
    async fn one_lease_is_found_by_its_attachment() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = crowd(&directory, 2);
        let attachment = |container| Attachment::new(container, "lan", "eth0").unwrap();
        let found = one(&table, &attachment("c001"));
        assert_eq!(
            (found.len(), found[0].attachment.container_id()),
            (1, "c001")
        );
        assert_eq!(one(&table, &attachment("c002")), []);
    }

    #[tokio::test]
    async fn a_lease_that_was_lost_or_is_being_sought_is_listed_without_an_address() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let slot = table.get_or_create(&record().attachment);
        assert_eq!(
            list(&table, None, None),
            (Vec::new(), false),
            "an empty slot"
        );
        let sought = Rc::new(lost_lease_of(record()));
        *slot.sought.borrow_mut() = Rc::downgrade(&sought);
        let (leases, _) = list(&table, None, None);
        assert!(leases[0].granted.is_none() && leases[0].problem.is_some());
    }
}
