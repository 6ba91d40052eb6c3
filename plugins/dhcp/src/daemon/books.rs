//! The books that the daemon keeps of its leases: who has which address, and who had, in memory and
//! on disk. That a disk fails costs a lease its survival, not the container its address; so it is
//! logged, and things go on.

use std::cell::RefCell;
use std::io;

use cni::Attachment;

use super::memory::{Identity, Memory, Remembered};
use crate::store::{Record, Standing, Store};

/// The books.
#[derive(Debug)]
pub(crate) struct Books {
    store: Store,
    memory: RefCell<Memory>,
}

impl Books {
    /// Books that are kept in this store.
    pub(crate) fn new(store: Store) -> Books {
        Books {
            store,
            memory: RefCell::default(),
        }
    }

    /// Everything that an earlier daemon has written down.
    pub(crate) fn load(&self) -> io::Result<Vec<Record>> {
        self.store.load()
    }

    /// What is written of an attachment.
    pub(crate) fn read(&self, attachment: &Attachment) -> io::Result<Option<Record>> {
        self.store.read(attachment)
    }

    /// Whether there is room for another lease, and the right to write it.
    pub(crate) fn can_write(&self) -> io::Result<()> {
        self.store.can_write()
    }

    /// Writes down how a lease stands. False when the disk does not take it.
    pub(crate) fn write(&self, record: &Record) -> bool {
        let written = self.store.write(record);
        if let Err(error) = &written {
            tracing::error!(attachment = %record.attachment, %error, "the lease could not be written to disk; it would not survive the daemon");
        }
        written.is_ok()
    }

    /// Notes that an address was lost. Where the container is, and what it wants, stays as it was
    /// written.
    pub(crate) fn note_lost(&self, attachment: &Attachment) {
        if let Ok(Some(record)) = self.read(attachment) {
            self.write(&record.now(Standing::Lost));
        }
    }

    /// Keeps a lease that has ended, so that its client can be given the same address again.
    pub(crate) fn remember(&self, record: Record) {
        if !self.write(&record) {
            // What is written says that the lease is held, and would be believed. To remove takes
            // no room on the disk.
            self.erase(&record.attachment);
        }
        for forgotten in self.memory.borrow_mut().remember(record) {
            self.forget(&forgotten);
        }
    }

    /// What is known of a client, and where from.
    pub(crate) fn recall(&self, identity: &Identity) -> Option<(Remembered, Record)> {
        self.memory.borrow().recall(identity)
    }

    /// Forgets what was recalled, because the client has a lease again, which is written down.
    pub(crate) fn supersede(&self, recalled: &Record) {
        self.memory.borrow_mut().forget(recalled);
        self.forget(recalled);
    }

    /// Removes a record that nobody needs any more, unless its attachment has another by now.
    pub(crate) fn forget(&self, record: &Record) {
        let written = self.read(&record.attachment).ok().flatten();
        if written.is_some_and(|written| written == *record) {
            self.erase(&record.attachment);
        }
    }

    /// Removes whatever is written of an attachment.
    pub(crate) fn erase(&self, attachment: &Attachment) {
        if let Err(error) = self.store.remove(attachment) {
            tracing::error!(%attachment, %error, "the file of a lease could not be removed");
        }
    }

    /// Forgets clients whose leases would have ended by now.
    pub(crate) fn sweep(&self) {
        let expired = self.memory.borrow_mut().forget_expired();
        for record in expired {
            self.forget(&record);
        }
    }
}
