//! The renewal of a lease that is not due yet, because an operator wants it.

use attachment::codes;
use cni::{Attachment, Error};

use super::table::Table;
use crate::daemon::exchange::now;

/// Has the client confirm the attachment's lease with the server (RFC 2131 §3.7), which extends it.
/// That happens in the background.
///
/// # Errors
/// `NO_LEASE` (120) if there is none.
pub(crate) fn renew(table: &Table, attachment: &Attachment) -> Result<(), Error> {
    let Some((slot, lease)) = table.leased(attachment) else {
        let what = format!("there is no lease for {attachment}");
        return Err(Error::new(codes::NO_LEASE, what));
    };
    lease.notify_carrier_restored();
    table.set_timer_at(&slot, Some(now()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record;

    #[tokio::test]
    async fn a_lease_is_due_at_once_and_one_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let attachment = record().attachment;
        let error = renew(&table, &attachment).expect_err("no lease");
        assert_eq!(error.code, codes::NO_LEASE);
        let slot = table.get_or_create(&attachment);
        table.put(&slot, Rc::new(lease_of(record())));
        table.set_timer(&slot);
        renew(&table, &attachment).expect("a lease");
        let due = table.next_due().await.expect("a timer");
        assert_eq!(due.attachment, attachment);
    }
}
