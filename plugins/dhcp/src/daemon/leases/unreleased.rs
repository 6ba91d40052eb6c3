//! Leases that have ended and whose server could not be told: it is tried again, for as long as the
//! interface exists and the lease has not expired.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cni::Attachment;

use super::end::CONCURRENT_RELEASES;
use super::resume;
use super::table::Table;

/// The attachments that had these leases. What they were is on disk, for the next daemon too.
#[derive(Debug, Default)]
pub(super) struct Unreleased(RefCell<BTreeSet<Attachment>>);

impl Unreleased {
    /// Tries to release the lease of this attachment later.
    pub(super) fn insert(&self, attachment: &Attachment) {
        self.0.borrow_mut().insert(attachment.clone());
    }

    /// Some that are tried now.
    fn take(&self) -> Vec<Attachment> {
        let mut all = self.0.borrow_mut();
        let some: Vec<_> = all.iter().take(CONCURRENT_RELEASES).cloned().collect();
        all.retain(|attachment| !some.contains(attachment));
        some
    }
}

/// Tries to release leases again that could not be released.
pub(crate) fn retry_releases(table: &Rc<Table>) {
    for attachment in table.unreleased.take() {
        // An attachment that has a slot has had another ADD.
        if table.get(&attachment).is_some() {
            continue;
        }
        let record = table.store.read(&attachment).ok().flatten();
        let Some(record) = record.filter(|record| record.is_detached() && !record.has_expired())
        else {
            continue;
        };
        if let Err(error) = resume::resume(table, record, None) {
            tracing::error!(%attachment, %error, "cannot release a lease, and will try again");
            table.unreleased.insert(&attachment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_tried_at_a_time_and_each_once() {
        let unreleased = Unreleased::default();
        let number = CONCURRENT_RELEASES + 2;
        for number in 0..number {
            let id = format!("c{number}");
            unreleased.insert(&Attachment::new(&id, "lan", "eth0").expect("valid names"));
        }
        assert_eq!(unreleased.take().len(), CONCURRENT_RELEASES);
        assert_eq!(unreleased.take().len(), 2);
        assert!(unreleased.take().is_empty());
    }
}
