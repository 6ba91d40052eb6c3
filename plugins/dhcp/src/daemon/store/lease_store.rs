//! The leases on disk, and the past leases among them. A write error is logged, not fatal: the
//! container keeps its address, and the lease is written later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cni::Attachment;

use super::past_leases::{ClientIdentity, PastLeases};
use crate::state::{LeaseStatus, Record, StateDir};

/// The leases on disk, and the past leases among them.
#[derive(Debug)]
pub(crate) struct LeaseStore {
    state: StateDir,
    past: RefCell<PastLeases>,
    /// Files and directories that could not be read yet.
    unread: RefCell<Vec<PathBuf>>,
    /// What could not be written yet: the record of an attachment, or that it has none.
    unwritten: RefCell<BTreeMap<Attachment, Option<Record>>>,
}

impl LeaseStore {
    /// A store in this directory.
    pub(crate) fn new(state: StateDir) -> LeaseStore {
        LeaseStore {
            state,
            past: RefCell::default(),
            unread: RefCell::default(),
            unwritten: RefCell::default(),
        }
    }

    /// Reads all records that an earlier daemon has written, and calls `each` for each of them.
    ///
    /// # Errors
    /// If the directory cannot be listed. Of what cannot be read inside it,
    /// [`LeaseStore::load_rest`] tries to read the records later.
    pub(crate) fn load(&self, each: impl FnMut(Record)) -> io::Result<()> {
        let unread = self.state.load(each)?;
        self.unread.borrow_mut().extend(unread);
        Ok(())
    }

    /// Reads the records that could not be read before.
    pub(crate) fn load_rest(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let unread = self.unread.take();
        let unread = self.state.load_again(unread, |record| records.push(record));
        self.unread.borrow_mut().extend(unread);
        records
    }

    /// Makes [`LeaseStore::load_rest`] read the attachment's record again.
    pub(crate) fn read_later(&self, attachment: &Attachment) {
        self.unread.borrow_mut().push(self.state.file(attachment));
    }

    /// Removes the attachment's file if it could not be read yet.
    pub(crate) fn erase_if_unread(&self, attachment: &Attachment) {
        let file = self.state.file(attachment);
        let is_unread = |path: &PathBuf| file.starts_with(path);
        if self.unread.borrow().iter().any(is_unread) {
            tracing::warn!(%attachment, "address not released: its lease cannot be read");
            self.erase(attachment);
        }
    }

    /// Reads the record of an attachment, or takes it from what could not be written yet.
    pub(crate) fn read(&self, attachment: &Attachment) -> io::Result<Option<Record>> {
        match self.unwritten.borrow().get(attachment) {
            Some(unwritten) => Ok(unwritten.clone()),
            None => self.state.read(attachment),
        }
    }

    /// Where the leases are on disk.
    pub(crate) fn directory(&self) -> &Path {
        self.state.path()
    }

    /// Checks that another lease could be written, by trying.
    pub(crate) fn can_write(&self) -> io::Result<()> {
        self.state.can_write()
    }

    /// Writes a lease. Returns false if that fails; [`LeaseStore::write_rest`] tries it again.
    pub(crate) fn write(&self, record: &Record) -> bool {
        let attachment = &record.attachment;
        let written = self.state.write(record);
        if let Err(error) = &written {
            tracing::error!(%attachment, %error, "cannot write the lease to disk; until that is possible, it will not survive a restart of the daemon");
        }
        self.note(attachment, Some(record), written)
    }

    /// Tries again to write and remove what could not be written and removed before.
    pub(crate) fn write_rest(&self) {
        for (attachment, record) in self.unwritten.take() {
            let outcome = match &record {
                Some(record) => self.state.write(record),
                None => self.state.remove(&attachment),
            };
            if self.note(&attachment, record.as_ref(), outcome) {
                tracing::info!(%attachment, "what could not be written to disk before is written now");
            }
        }
    }

    /// Notes whether the disk has this record of the attachment, or none, as it should. Returns
    /// whether it does.
    fn note(
        &self,
        attachment: &Attachment,
        record: Option<&Record>,
        outcome: io::Result<()>,
    ) -> bool {
        let mut unwritten = self.unwritten.borrow_mut();
        match outcome {
            Ok(()) => drop(unwritten.remove(attachment)),
            Err(_) => drop(unwritten.insert(attachment.clone(), record.cloned())),
        }
        !unwritten.contains_key(attachment)
    }

    /// Records that the address was lost. Interface and parameters stay as they were written.
    pub(crate) fn mark_lost(&self, attachment: &Attachment) {
        if let Ok(Some(record)) = self.read(attachment) {
            self.write(&record.with_status(LeaseStatus::Lost));
        }
    }

    /// Keeps a lease that has ended, so that its client can ask for the same address again.
    pub(crate) fn remember(&self, record: Record) {
        if !self.write(&record) {
            // The file still says that the lease is active, and the next daemon would believe it.
            // Removing it needs no space on the disk.
            let _ = self.remove(&record.attachment);
        }
        let attachment = record.attachment.clone();
        for displaced in self.past.borrow_mut().insert(record) {
            if displaced.attachment != attachment {
                self.erase_if_unchanged(&displaced);
            }
        }
    }

    /// The last lease of a client that has none now, if it is known.
    pub(crate) fn recall(&self, client: &ClientIdentity) -> Option<Record> {
        self.past.borrow().get(client).cloned()
    }

    /// The leases of this boot that were abandoned although nobody has ended their attachments.
    pub(crate) fn abandoned(&self) -> Vec<Record> {
        self.past.borrow().abandoned().cloned().collect()
    }

    /// Forgets a past lease whose client has another one now.
    pub(crate) fn forget_superseded(&self, past: &Record) {
        self.forget(past);
        self.erase_if_unchanged(past);
    }

    /// Forgets a past lease, and leaves its file alone.
    pub(crate) fn forget(&self, past: &Record) {
        self.past.borrow_mut().remove(past);
    }

    /// Forgets past leases that have expired by now.
    pub(crate) fn forget_expired(&self) {
        for record in self.past.borrow_mut().remove_expired() {
            self.erase_if_unchanged(&record);
        }
    }

    /// Removes the attachment's file. If that fails, [`LeaseStore::write_rest`] tries it again.
    pub(crate) fn erase(&self, attachment: &Attachment) {
        let removed = self.remove(attachment);
        self.note(attachment, None, removed);
    }

    fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        self.state.remove(attachment).inspect_err(|error| {
            tracing::error!(%attachment, %error, "cannot remove the file of a lease");
        })
    }

    /// Removes the record's file, unless the attachment has another lease by now.
    fn erase_if_unchanged(&self, record: &Record) {
        let written = self.read(&record.attachment).ok().flatten();
        if written.as_ref() == Some(record) {
            self.erase(&record.attachment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{expired_record, record};

    #[test]
    fn what_cannot_be_written_or_removed_is_tried_again() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::at(directory.path().join("state"));
        let store = LeaseStore::new(state.clone());
        let record = record();
        let read = || state.read(&record.attachment).expect("no error");
        // A file in place of the directory.
        std::fs::write(state.path(), "").expect("writing");
        assert!(!store.write(&record));
        let unwritten = store.read(&record.attachment).expect("no error");
        assert_eq!(unwritten.as_ref(), Some(&record));
        store.write_rest();
        std::fs::remove_file(state.path()).expect("it is ours");
        store.write_rest();
        assert_eq!(read().as_ref(), Some(&record));

        // A directory in place of the file.
        let file = state.file(&record.attachment);
        std::fs::remove_file(&file).expect("it is there");
        std::fs::create_dir_all(file.join("x")).expect("in its place");
        store.erase(&record.attachment);
        std::fs::remove_dir_all(&file).expect("it is ours");
        state.write(&record).expect("nothing is in the way");
        store.write_rest();
        assert_eq!(read(), None);
    }

    #[test]
    fn a_record_that_could_not_be_used_is_read_once_more() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let store = LeaseStore::new(StateDir::at(directory.path().to_owned()));
        let record = record();
        assert!(store.write(&record));
        assert!(store.load_rest().is_empty());
        store.read_later(&record.attachment);
        assert_eq!(store.load_rest(), [record]);
        assert!(store.load_rest().is_empty());
    }

    #[test]
    fn a_lost_address_is_noted_on_disk() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let store = LeaseStore::new(StateDir::at(directory.path().to_owned()));
        let record = record();
        assert!(store.write(&record));
        store.mark_lost(&record.attachment);
        let on_disk = store.read(&record.attachment).expect("no error");
        assert_eq!(on_disk, Some(record.with_status(LeaseStatus::Lost)));
    }

    #[test]
    fn the_file_of_a_lease_that_has_ended_is_removed_once_it_has_expired() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::at(directory.path().to_owned());
        let store = LeaseStore::new(state.clone());
        let ended = expired_record();
        store.remember(ended.clone().with_status(LeaseStatus::Released));
        assert!(state.file(&ended.attachment).exists());
        store.forget_expired();
        assert!(!state.file(&ended.attachment).exists());
    }
}
