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
