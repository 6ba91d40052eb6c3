//! The entry of one attachment in the table.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
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
    /// The lease that was set aside while an ADD of another attachment tries to obtain one in its
    /// place.
    pub(super) superseded: RefCell<Option<Rc<ManagedLease>>>,
    /// The lease that an ADD is trying to obtain.
    pub(super) sought: RefCell<Weak<ManagedLease>>,
    /// The timer at which the lease must be maintained next.
    pub(super) timer: Cell<Option<TimerKey>>,
    /// What [`Holders`](super::holders::Holders) has of it: see [`Slot::held`].
    pub(super) indexed: Cell<Option<Option<Ipv4Addr>>>,
    /// The member of the group that `-group` admits, if one requested a lease that is not there yet.
    pub(super) requested_by: Cell<Option<u32>>,
}

impl Slot {
    /// A slot without a lease.
    pub(super) fn new(attachment: Attachment) -> Slot {
        Slot {
            attachment,
            exchange_lock: Mutex::new(()),
            cancelled: Notify::new(),
            lease: RefCell::default(),
            superseded: RefCell::default(),
            sought: RefCell::default(),
            timer: Cell::default(),
            indexed: Cell::default(),
            requested_by: Cell::default(),
        }
    }

    /// The address of the lease, which may have none at the moment. An ADD that seeks a lease counts
    /// as a lease without an address.
    pub(super) fn held(&self) -> Option<Option<Ipv4Addr>> {
        match &*self.lease.borrow() {
            Some(lease) => Some(lease.address()),
            None => (self.sought.borrow().strong_count() > 0).then_some(None),
        }
    }

    /// Whether a server has leased this address to the client of `of` for this attachment, or may be
    /// about to.
    pub(super) fn may_hold(&self, of: &ManagedLease, address: Option<Ipv4Addr>) -> bool {
        self.leases().any(|lease| {
            let is_other = matches!((lease.address(), address), (Some(a), Some(b)) if a != b);
            !is_other && lease.client().is_same_client(&of.client()) && lease.may_share_lan(of)
        })
    }

    /// The member of the group that `-group` admits who requested the lease; `None` if root did.
    pub(super) fn member(&self) -> Option<u32> {
        let lease = self.leases().next();
        lease.map_or_else(|| self.requested_by.get(), |lease| lease.member())
    }

    /// The lease, if there is one, and then the one that an ADD is trying to obtain.
    pub(super) fn leases(&self) -> impl Iterator<Item = Rc<ManagedLease>> + use<> {
        let sought = self.sought.borrow().upgrade();
        self.lease().into_iter().chain(sought)
    }

    /// The lease, if there is one.
    pub(super) fn lease(&self) -> Option<Rc<ManagedLease>> {
        self.lease.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::daemon::leases::lease::tests::{lease_of, lost_lease_of};
    use crate::protocol::ClientId;
    use crate::state::tests::record;

    use super::*;

    #[test]
    fn a_slot_may_hold_an_address_that_its_client_has_or_seeks() {
        let record = record();
        let address = record.lease.address;
        let other = Some(Ipv4Addr::new(10, 99, 0, 7));
        let of = lease_of(record.clone());
        let slot = Slot::new(record.attachment.clone());
        assert!(!slot.may_hold(&of, Some(address)), "it is empty");

        *slot.lease.borrow_mut() = Some(Rc::new(lease_of(record.clone())));
        assert!(slot.may_hold(&of, Some(address)) && slot.may_hold(&of, None));
        assert!(!slot.may_hold(&of, other));
        let mut identified = record.clone();
        identified.params.client_id = ClientId::Sent(vec![1, 2, 3].into());
        assert!(!slot.may_hold(&lease_of(identified), Some(address)));

        slot.lease.take();
        let sought = Rc::new(lost_lease_of(record));
        *slot.sought.borrow_mut() = Rc::downgrade(&sought);
        assert!(slot.may_hold(&of, Some(address)) && slot.may_hold(&of, other));
    }

    #[test]
    fn the_holder_is_whoever_requested_the_lease() {
        let mut record = record();
        let slot = Slot::new(record.attachment.clone());
        assert_eq!(slot.member(), None);
        slot.requested_by.set(Some(1000));
        assert_eq!(slot.member(), Some(1000));
        *slot.lease.borrow_mut() = Some(Rc::new(lease_of(record.clone())));
        assert_eq!(slot.member(), None, "root has the lease");
        record.params.member = Some(1001);
        *slot.lease.borrow_mut() = Some(Rc::new(lease_of(record)));
        assert_eq!(slot.member(), Some(1001));
    }
}
