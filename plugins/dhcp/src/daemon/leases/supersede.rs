//! Leases that end because another container gets their address under the same identity. They are
//! set aside, and forgotten once the other container has its lease. If its ADD fails, they are taken
//! up again.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use cni::Attachment;
use linknet::{Link, Netns};
use tracing::field::display;

use super::end;
use super::lease::ManagedLease;
use super::slot::Slot;
use super::table::Table;
use crate::daemon::exchange::now;

/// The slots whose leases an attempt to obtain a lease has set aside.
#[derive(Debug, Default)]
pub(super) struct Superseded(RefCell<Vec<Rc<Slot>>>);

impl Superseded {
    /// Sets the leases of other attachments aside that are for the client of this lease, and for the
    /// address that a server has just granted to it: the server takes both containers for one
    /// client, and the later one has the address. It is taken off the other, but not released. One
    /// that has lost its address is set aside too, because the server would give it the same.
    pub(super) fn set_aside(
        &self,
        table: &Table,
        slot: &Slot,
        lease: &ManagedLease,
        address: Ipv4Addr,
    ) {
        let client = lease.client();
        for other in table.holders.of(address) {
            let old = other.lease().filter(|old| {
                let would_share = match old.address() {
                    Some(held) => held == address && old.client().is_same_client(&client),
                    None => old.client() == client,
                };
                would_share && !std::ptr::eq(&*other, slot) && old.may_share_lan(lease)
            });
            let Some(old) = old else { continue };
            other.cancelled.notify_waiters();
            let interface = old.lookup().ok();
            if let Some((netns, link)) = &interface
                && old.is_other_client_with(link)
            {
                start_over(table, &other, &old, netns, link);
            } else {
                end::take(table, &other);
                take_address_off(
                    table,
                    &other.attachment,
                    &old,
                    interface.map(|(netns, _)| netns),
                );
                *other.superseded.borrow_mut() = Some(old);
                self.0.borrow_mut().push(other);
            }
        }
    }

    /// Forgets them, because the successor has its lease.
    pub(super) fn forget(&self, table: &Table, successor: &Attachment) {
        for slot in self.0.take() {
            // There is none if a DEL came meanwhile.
            if let Some(old) = slot.superseded.take() {
                forget(table, &slot, &old, successor);
            }
        }
    }

    /// Takes them up again, because the successor has failed.
    pub(super) fn take_up_again(&self, table: &Table) {
        for slot in self.0.take() {
            let Some(old) = slot.superseded.take() else {
                continue;
            };
            if table.is_held_by_another(&slot, &old, old.address()) {
                // One more container has asked for the address.
                forget(table, &slot, &old, &slot.attachment);
                continue;
            }
            let (attachment, address) = (&slot.attachment, old.address().map(display));
            tracing::info!(%attachment, address, "lease taken up again: the container that was to have its address has failed");
            old.reconfirm();
            table.put(&slot, old);
            table.set_timer_at(&slot, Some(now()));
        }
    }
}

/// Takes the address of a lease that is set aside off its interface.
fn take_address_off(table: &Table, from: &Attachment, old: &ManagedLease, netns: Option<Netns>) {
    if let Some(netns) = netns
        && let Err(error) = old.take_address_off(&netns)
    {
        let address = old.address().map(display);
        tracing::error!(attachment = %from, address, %error, "cannot remove the address from the interface");
    }
    if old.has_host_access() {
        table.host_routes.remove(from);
    }
}

fn forget(table: &Table, slot: &Rc<Slot>, old: &ManagedLease, successor: &Attachment) {
    let (attachment, address) = (&slot.attachment, old.address().map(display));
    tracing::warn!(%attachment, address, %successor, "lease dropped: another container has leased the address under the same client identifier");
    table.store.erase(attachment);
    table.remove_if_empty(slot);
}

/// Lets a client start over whose interface has got another MAC: servers know it by its MAC, and
/// another container has the old one, and with it the address.
fn start_over(table: &Table, slot: &Rc<Slot>, old: &ManagedLease, netns: &Netns, link: &Link) {
    table.cancel_timer(slot);
    old.start_over(netns, link);
    table.persist(slot);
    if old.has_host_access() {
        table.host_routes.remove(&slot.attachment);
    }
    table.set_timer_at(slot, Some(now()));
}

#[cfg(test)]
mod tests {
    use attachment::host_access::HostAccessKey;

    use crate::daemon::host_routes::tests::{pending, suspend};
    use crate::daemon::leases::lease::tests::{lease_of, lost_lease_of};
    use crate::daemon::leases::table::tests::table;
    use crate::protocol::ClientId;
    use crate::state::Record;
    use crate::state::tests::record_of;

    use super::*;

    /// A table where another attachment has this lease, and a slot that is to get one.
    struct Two {
        _directory: tempfile::TempDir,
        table: Table,
        other: Rc<Slot>,
        slot: Rc<Slot>,
    }

    impl Two {
        fn new(old: ManagedLease) -> Two {
            let directory = tempfile::tempdir().expect("a scratch directory");
            let table = table(&directory);
            let [other, slot] = ["c1", "c2"]
                .map(|container| table.get_or_create(&record_of(container, "lan").attachment));
            table.put(&other, Rc::new(old));
            Two {
                _directory: directory,
                table,
                other,
                slot,
            }
        }

        /// Whether the other's lease is set aside for one of `new` at its address.
        fn set_aside(&self, new: &Record) -> (Superseded, bool) {
            let superseded = Superseded::default();
            let lease = lease_of(new.clone());
            superseded.set_aside(&self.table, &self.slot, &lease, new.lease.address);
            let is_aside = self.other.superseded.borrow().is_some();
            assert_ne!(is_aside, self.other.lease.borrow().is_some());
            (superseded, is_aside)
        }
    }

    #[tokio::test]
    async fn a_lease_is_set_aside_for_one_of_its_client_at_its_address() {
        let mut new = record_of("c2", "lan");
        new.params.client_id = ClientId::Sent(vec![1, 2, 3].into());
        let old = |change: fn(&mut Record)| {
            let mut old = record_of("c1", "lan");
            old.params.client_id = new.params.client_id.clone();
            change(&mut old);
            old
        };
        let is_set_aside = |old: ManagedLease| Two::new(old).set_aside(&new).1;
        assert!(is_set_aside(lease_of(old(|_| {}))));
        let elsewhere = old(|old| old.lease.address = [10, 99, 0, 7].into());
        assert!(!is_set_aside(lease_of(elsewhere)));
        let another = old(|old| old.params.client_id = ClientId::Mac);
        assert!(!is_set_aside(lease_of(another.clone())));
        assert!(
            is_set_aside(lost_lease_of(old(|_| {}))),
            "it would get the same"
        );
        assert!(!is_set_aside(lost_lease_of(another)));
    }

    #[tokio::test]
    async fn the_host_is_not_led_to_a_lease_that_is_set_aside() {
        for host_access in [HostAccessKey::default(), HostAccessKey::OnLink] {
            let is_led = !host_access.is_off();
            let mut old = record_of("c1", "lan");
            old.params.host_access = host_access;
            let two = Two::new(lease_of(old));
            suspend(&two.table.host_routes);
            assert!(two.set_aside(&record_of("c2", "lan")).1);
            let routes = pending(&two.table.host_routes);
            assert_eq!(routes.contains(&two.other.attachment), is_led);
        }
    }

    #[tokio::test]
    async fn a_lease_is_not_set_aside_for_its_own_attachment() {
        let two = Two::new(lease_of(record_of("c1", "lan")));
        let lease = lease_of(record_of("c1", "lan"));
        let address = record_of("c1", "lan").lease.address;
        let superseded = Superseded::default();
        superseded.set_aside(&two.table, &two.other, &lease, address);
        assert!(two.other.lease.borrow().is_some());
    }

    #[tokio::test]
    async fn a_lease_that_was_set_aside_is_taken_up_again_or_forgotten() {
        let record = record_of("c1", "lan");
        for succeeds in [false, true] {
            let two = Two::new(lease_of(record.clone()));
            assert!(two.table.store.write(&record));
            let (superseded, is_aside) = two.set_aside(&record_of("c2", "lan"));
            assert!(is_aside);
            match succeeds {
                true => superseded.forget(&two.table, &two.slot.attachment),
                false => superseded.take_up_again(&two.table),
            }
            assert_eq!(two.table.has(&two.other), !succeeds);
            assert_eq!(two.other.lease.borrow().is_some(), !succeeds);
            assert_eq!(two.other.timer.get().is_some(), !succeeds);
            let on_disk = two.table.store.read(&record.attachment).expect("no error");
            assert_eq!(on_disk.is_some(), !succeeds);
        }
    }
}
