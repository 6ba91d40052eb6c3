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
    let slot = table.get(attachment);
    let Some((slot, lease)) = slot.and_then(|slot| slot.lease().map(|lease| (slot, lease))) else {
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
