//! Leases that have ended and whose server could not be told: it is tried again, for as long as the
//! interface exists and the lease has not expired.

use std::cell::RefCell;
use std::collections::BTreeSet;

use cni::Attachment;

/// The attachments that had these leases. What they were is on disk, for the next daemon too.
#[derive(Debug, Default)]
pub(super) struct Unreleased(RefCell<BTreeSet<Attachment>>);

impl Unreleased {
    /// Tries to release the lease of this attachment later.
    pub(super) fn insert(&self, attachment: &Attachment) {
        self.0.borrow_mut().insert(attachment.clone());
    }

    /// So many that are tried now, or fewer.
    pub(super) fn take(&self, max: usize) -> Vec<Attachment> {
        let mut all = self.0.borrow_mut();
        let some: Vec<_> = all.iter().take(max).cloned().collect();
        all.retain(|attachment| !some.contains(attachment));
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_tried_at_a_time_and_each_once() {
        let unreleased = Unreleased::default();
        for number in 0..5 {
            let id = format!("c{number}");
            unreleased.insert(&Attachment::new(&id, "lan", "eth0").expect("valid names"));
        }
        assert_eq!(unreleased.take(3).len(), 3);
        assert_eq!(unreleased.take(3).len(), 2);
        assert!(unreleased.take(3).is_empty());
    }
}
