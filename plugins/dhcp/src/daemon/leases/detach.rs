//! DEL and GC: the ends of attachments.

use std::collections::HashSet;
use std::rc::Rc;

use cni::Attachment;
use tokio::task::JoinSet;

use super::end::{CONCURRENT_RELEASES, end};
use super::resume;
use super::table::Table;

/// DEL: releases the lease of an attachment, also one that was abandoned although its interface is
/// still there, and cancels an ADD that is still running. If there is none of them, it does nothing.
pub(crate) async fn del(table: &Rc<Table>, attachment: &Attachment) {
    let slot = table.get(attachment);
    match slot.or_else(|| resume::take_up_abandoned(table, attachment)) {
        Some(slot) => end(table, &slot).await,
        None => table.store.erase_if_unread(attachment),
    }
}

/// GC: releases every lease of the network whose attachment is not in `keep`.
pub(crate) async fn gc(table: &Rc<Table>, network: &str, keep: &[Attachment]) {
    resume::resume_abandoned(table);
    let keep: HashSet<&Attachment> = keep.iter().collect();
    let attachments = table
        .slots()
        .into_iter()
        .map(|slot| slot.attachment.clone());
    let stale: Vec<Attachment> = attachments
        .filter(|attachment| attachment.network() == network && !keep.contains(attachment))
        .collect();
    for some in stale.chunks(CONCURRENT_RELEASES) {
        let mut tasks = JoinSet::new();
        for attachment in some {
            tracing::info!(%attachment, "GC: releasing the lease of an attachment that is not valid");
            let (table, attachment) = (Rc::clone(table), attachment.clone());
            tasks.spawn_local(async move { del(&table, &attachment).await });
        }
        tasks.join_all().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record_of;

    #[tokio::test]
    async fn gc_ends_the_leases_of_one_network_that_are_not_to_be_kept() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let all = [("kept", "lan"), ("stale", "lan"), ("other", "wan")];
        let all = all.map(|(container, network)| record_of(container, network));
        for record in &all {
            assert!(table.store.write(record));
            let slot = table.get_or_create(&record.attachment);
            table.put(&slot, Rc::new(lease_of(record.clone())));
        }
        let [kept, stale, other] = all.map(|record| record.attachment);
        let collected = gc(&table, "lan", std::slice::from_ref(&kept));
        LocalSet::new().run_until(collected).await;
        assert!(table.get(&kept).is_some() && table.get(&other).is_some());
        assert!(table.get(&stale).is_none());
        let on_disk = table.store.read(&stale).expect("no error");
        assert!(on_disk.is_none_or(|record| record.is_detached()));
    }
}
