//! CHECK: whether an attachment has its lease.

use std::net::Ipv4Addr;

use attachment::codes;
use cni::{Attachment, Error};

use super::table::Table;
use crate::daemon::exchange::now;

/// Checks that the attachment has a lease, and that it is for one of these addresses, if there are
/// any. It never waits for the network.
///
/// # Errors
/// `NO_LEASE` (120) if there is no usable lease, `LEASE_DIFFERS` (121) if it is for another
/// address.
pub(crate) fn check(
    table: &Table,
    attachment: &Attachment,
    addresses: &[Ipv4Addr],
) -> Result<(), Error> {
    let no_lease = |what: String| Error::new(codes::NO_LEASE, what);
    let Some((slot, lease)) = table.leased(attachment) else {
        return Err(no_lease(format!("there is no lease for {attachment}")).details(
            "it was released, or dropped because the container was gone: detach the container and attach it again",
        ));
    };
    match lease.has_other_mac() {
        // The client continues with it now rather than when the lease is due.
        Ok(true) => table.set_timer_at(&slot, Some(now())),
        Ok(false) => {}
        Err(unreachable) => {
            let what = format!("cannot use the lease of {attachment}: {unreachable}");
            return Err(no_lease(what));
        }
    }
    match lease.address() {
        None => {
            Err(match lease.kept_address() {
                Some(address) => {
                    let key = lease.on_change().name();
                    no_lease(format!(
                    "{attachment} has lost its address, and no server has granted {address} again"
                ))
                .details(format!("it takes no other (onChange: {key}); {}", lease.report()))
                }
                None => no_lease(format!(
                    "{attachment} has lost its address, and no server has granted another"
                ))
                .details(lease.report()),
            })
        }
        Some(address) if addresses.is_empty() || addresses.contains(&address) => Ok(()),
        Some(address) => Err(Error::new(
            codes::LEASE_DIFFERS,
            format!("the lease of {attachment} is for {address}, which prevResult does not list"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use linknet::Mac;

    use super::*;
    use crate::daemon::leases::lease::ManagedLease;
    use crate::daemon::leases::lease::tests::{lease_of, lost_lease_of};
    use crate::daemon::leases::table::tests::table;
    use crate::state::Record;
    use crate::state::tests::{loopback, record};

    const NO_LEASE: Option<u32> = Some(codes::NO_LEASE);

    /// The code of CHECK's error about this lease, and whether the lease is maintained next.
    fn checked(lease: Option<ManagedLease>, addresses: &[Ipv4Addr]) -> (Option<u32>, bool) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let slot = table.get_or_create(&record().attachment);
        if let Some(lease) = lease {
            table.put(&slot, Rc::new(lease));
        }
        let error = check(&table, &slot.attachment, addresses).err();
        (error.map(|error| error.code), slot.timer.get().is_some())
    }

    fn living() -> Record {
        let mut record = record();
        record.interface = loopback();
        record
    }

    #[tokio::test]
    async fn a_lease_must_be_there_with_its_container_and_for_an_address_of_the_result() {
        let address = record().lease.address;
        let other = Ipv4Addr::new(10, 99, 0, 7);
        assert_eq!(checked(None, &[]).0, NO_LEASE);
        assert_eq!(checked(Some(lease_of(record())), &[]).0, NO_LEASE, "gone");
        assert_eq!(checked(Some(lost_lease_of(living())), &[]).0, NO_LEASE);
        for (addresses, code) in [
            (&[][..], None),
            (&[other, address], None),
            (&[other], Some(codes::LEASE_DIFFERS)),
        ] {
            assert_eq!(checked(Some(lease_of(living())), addresses), (code, false));
        }
    }

    #[tokio::test]
    async fn a_client_continues_at_once_with_another_mac() {
        let mut record = living();
        record.interface = record.interface.with_mac(Mac([2; 6]));
        assert_eq!(checked(Some(lease_of(record)), &[]), (None, true));
    }
}
