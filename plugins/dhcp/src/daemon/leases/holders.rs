//! Which slots may have an address: an ADD must not look at each of thousands of leases.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::{Rc, Weak};

use super::slot::Slot;

/// The slots with a lease, or with an ADD that seeks one, by the address of the lease.
#[derive(Debug, Default)]
pub(super) struct Holders(RefCell<BTreeMap<Key, Weak<Slot>>>);

/// An address, or `None` for a lease without one, and the slot's address in memory, which is its own
/// for as long as it is in the map.
type Key = (Option<Ipv4Addr>, usize);

impl Holders {
    /// Notes that the slot has got or lost a lease, or its lease an address.
    pub(super) fn update(&self, slot: &Rc<Slot>) {
        let held = slot.held();
        let before = slot.indexed.replace(held);
        if held == before {
            return;
        }
        let mut slots = self.0.borrow_mut();
        let number = Rc::as_ptr(slot).addr();
        if let Some(address) = before {
            slots.remove(&(address, number));
        }
        if let Some(address) = held {
            slots.insert((address, number), Rc::downgrade(slot));
        }
    }

    /// The slots whose lease is for this address, or has none yet, or not any more.
    pub(super) fn of(&self, address: Ipv4Addr) -> Vec<Rc<Slot>> {
        let slots = self.0.borrow();
        let under = |address| slots.range((address, usize::MIN)..=(address, usize::MAX));
        let found = under(Some(address)).chain(under(None));
        found.filter_map(|(_, slot)| slot.upgrade()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::exchange::now;
    use crate::daemon::leases::end;
    use crate::daemon::leases::lease::ManagedLease;
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record;

    #[tokio::test]
    async fn a_slot_is_found_by_its_address_for_as_long_as_it_has_a_lease() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let mut record = record();
        record.lease.requested_at = now();
        let config = table.client_config(&record.params, record.interface.mac);
        let client = dhcp4::Client::resume(config, 1, record.lease.clone(), now());
        let slot = table.get_or_create(&record.attachment);
        let is_found = |address| {
            let found = table.holders.of(address);
            found.iter().any(|found| Rc::ptr_eq(found, &slot))
        };
        let address = record.lease.address;
        let other = Ipv4Addr::from_bits(address.to_bits() + 1);
        assert!(!is_found(address));

        let lease = Rc::new(ManagedLease::resumed(client, record, None));
        *slot.sought.borrow_mut() = Rc::downgrade(&lease);
        table.holders.update(&slot);
        assert!(is_found(other), "it may get any address");

        *slot.lease.borrow_mut() = Some(lease);
        table.set_timer(&slot);
        assert!(is_found(address) && !is_found(other));

        end::take(&table, &slot);
        assert!(!is_found(address) && !is_found(other));
    }
}
