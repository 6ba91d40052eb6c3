//! The entry of one attachment in the table.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use cni::Attachment;
use tokio::sync::{Mutex, Notify};

use super::lease::ManagedLease;
use super::timer_queue::TimerKey;

/// The entry of one attachment in the table.
#[derive(Debug)]
pub(super) struct Slot {
    /// The attachment.
    pub(super) attachment: Attachment,
    /// Held while the daemon exchanges messages with a server for the attachment: one exchange at a
    /// time.
    pub(super) exchange_lock: Mutex<()>,
    /// Tells the exchange that holds the lock to stop, because the attachment ends.
    pub(super) cancelled: Notify,
    /// The lease, if there is one.
    pub(super) lease: RefCell<Option<Rc<ManagedLease>>>,
    /// The lease that an ADD is trying to obtain.
    pub(super) sought: RefCell<Weak<ManagedLease>>,
    /// The timer at which the lease must be maintained next.
    pub(super) timer: Cell<Option<TimerKey>>,
}

impl Slot {
    /// A slot without a lease.
    pub(super) fn new(attachment: Attachment) -> Slot {
        Slot {
            attachment,
            exchange_lock: Mutex::new(()),
            cancelled: Notify::new(),
            lease: RefCell::default(),
            sought: RefCell::default(),
            timer: Cell::default(),
        }
    }

    /// The lease, if there is one.
    pub(super) fn lease(&self) -> Option<Rc<ManagedLease>> {
        self.lease.borrow().clone()
    }
}
