//! The leases on disk, and the past leases among them. A write error is logged, not fatal: the
//! container keeps its address, but the lease will not survive a restart of the daemon.

use std::cell::RefCell;
use std::io;

use cni::Attachment;

use super::past_leases::{ClientIdentity, PastLeases};
use crate::state::{LeaseStatus, Record, StateDir};

/// The leases on disk, and the past leases among them.
#[derive(Debug)]
pub(crate) struct LeaseStore {
    state: StateDir,
    past: RefCell<PastLeases>,
}

impl LeaseStore {
    /// A store in this directory.
    pub(crate) fn new(state: StateDir) -> LeaseStore {
        LeaseStore {
            state,
            past: RefCell::default(),
        }
    }

    /// Reads all records that an earlier daemon has written.
    pub(crate) fn load(&self) -> io::Result<Vec<Record>> {
        self.state.load()
    }

    /// Reads the record of an attachment.
    pub(crate) fn read(&self, attachment: &Attachment) -> io::Result<Option<Record>> {
        self.state.read(attachment)
    }

    /// Checks that another lease could be written, by trying.
    pub(crate) fn can_write(&self) -> io::Result<()> {
        self.state.can_write()
    }

    /// Writes a lease. Returns false if that fails.
    pub(crate) fn write(&self, record: &Record) -> bool {
        let written = self.state.write(record);
        if let Err(error) = &written {
            tracing::error!(attachment = %record.attachment, %error, "cannot write the lease to disk; it will not survive a restart of the daemon");
        }
        written.is_ok()
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
            self.erase(&record.attachment);
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

    /// Forgets a past lease whose client has another one now.
    pub(crate) fn forget_superseded(&self, past: &Record) {
        self.past.borrow_mut().remove(past);
        self.erase_if_unchanged(past);
    }

    /// Forgets past leases that have expired by now.
    pub(crate) fn forget_expired(&self) {
        for record in self.past.borrow_mut().remove_expired() {
            self.erase_if_unchanged(&record);
        }
    }

    /// Removes the attachment's file.
    pub(crate) fn erase(&self, attachment: &Attachment) {
        if let Err(error) = self.state.remove(attachment) {
            tracing::error!(%attachment, %error, "cannot remove the file of a lease");
        }
    }

    /// Removes the record's file, unless the attachment has another lease by now.
    fn erase_if_unchanged(&self, record: &Record) {
        let written = self.read(&record.attachment).ok().flatten();
        if written.as_ref() == Some(record) {
            self.erase(&record.attachment);
        }
    }
}
