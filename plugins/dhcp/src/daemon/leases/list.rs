//! The leases as an operator sees them.

use std::rc::Rc;

use cni::Attachment;

use super::slot::Slot;
use super::table::Table;
use crate::protocol::LeaseView;

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

/// `None` if the slot has no lease, and nobody seeks one.
fn view(slot: &Rc<Slot>) -> Option<LeaseView> {
    let lease = slot.lease().or_else(|| slot.sought.borrow().upgrade())?;
    Some(lease.view())
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
