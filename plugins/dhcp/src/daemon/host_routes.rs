//! `hostAccess`: the host's route to a container follows its lease.
//!
//! macvlan creates the first route, when ADD has given the container its address, and removes the
//! last one. In between the daemon updates the route: when the lease changes its address, is lost
//! or obtained again, or when the container disappears.
//!
//! Changing such a route needs a lock that other processes may hold for a while. So a worker thread
//! does it, one attachment after the other. A newer change of an attachment replaces one that is
//! pending. A change that has to wait for the lock, for a thread or for memory stays pending, and
//! is tried again. When the daemon stops, its successor makes all changes again that may be
//! missing.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use attachment::host_access::{
    AttachError, AttachmentTag, HostAccess, HostAccessKey, Refusal, return_routes,
};
use attachment::{HostLock, SourceRouting};
use cni::Attachment;
use ipnet::Ipv4Net;
use linknet::{Netlink, Netns};
use tokio::time::sleep;

use crate::state::{InterfaceRef, Unreachable};

/// How long to wait for the lock. A holder needs milliseconds, and a hundred others may be waiting.
const HOST_LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often a change that the kernel refuses is tried. The next renewal tries it again.
const ATTEMPTS: u32 = 3;

/// The pause before the daemon, when it stops, looks again whether all changes are done.
const FINISH_INTERVAL: Duration = Duration::from_millis(5);

/// Where the host's route to a container must lead.
#[derive(Debug)]
pub(super) struct Target {
    /// The container's interface.
    pub(super) interface: InterfaceRef,
    /// Its netns, if that cannot be found by its path.
    pub(super) pinned_netns: Option<Netns>,
    /// The container's address.
    pub(super) net: Ipv4Net,
    /// The interface's own routing table, if it has one.
    pub(super) source_routing: SourceRouting,
    /// Where the configuration lets the host be led to.
    pub(super) key: HostAccessKey,
}

/// Changes the host's routes to containers.
#[derive(Debug)]
pub(super) struct HostRouteWorker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The daemon's own netns: the host's, unless the daemon was started in another one.
    own: Netns,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Change>,
    /// The attachment whose change is being made, unless it was cancelled: then the change is not
    /// tried again.
    current: Option<Attachment>,
    has_worker: bool,
}

/// A change of the host's route to a container.
#[derive(Debug)]
struct Change {
    attachment: Attachment,
    /// `None` removes the route.
    target: Option<Target>,
    /// How often it may be tried.
    attempts: u32,
}

impl Change {
    /// The change as it is tried again after this error; `None` if it is not.
    fn after(self, error: &Error) -> Option<Change> {
        let attempts = self.attempts.checked_sub(1)?;
        let is_tried_again = error.may_pass() && attempts > 0;
        is_tried_again.then_some(Change { attempts, ..self })
    }
}

/// Why a route could not be changed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Kernel(#[from] linknet::Error),
    #[error(
        "the daemon is not in the network namespace of {0}'s parent, and cannot change the host's routes"
    )]
    OtherNetns(String),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Error::Kernel(_) | Error::Unreachable(_) => true,
            Error::OtherNetns(_) => false,
            Error::Refused(refusal) => refusal.is_temporary(),
        }
    }
}

impl From<AttachError> for Error {
    fn from(error: AttachError) -> Error {
        match error {
            AttachError::Kernel(error) => error.into(),
            AttachError::Refused(refusal) => refusal.into(),
        }
    }
}

impl HostRouteWorker {
    /// A worker for the netns that the daemon is in.
    pub(super) fn new() -> io::Result<HostRouteWorker> {
        let own = Netns::current().map_err(io::Error::other)?;
        Ok(HostRouteWorker {
            shared: Arc::new(Shared {
                own,
                queue: Mutex::default(),
            }),
        })
    }

    /// Sets the host's route to the container to this target.
    pub(super) fn set(&self, attachment: &Attachment, target: Target) {
        self.push(attachment, Some(target));
    }

    /// Removes the host's route to the container.
    pub(super) fn remove(&self, attachment: &Attachment) {
        self.push(attachment, None);
    }

    /// Cancels a pending change, because the attachment ends or belongs to another container now. A
    /// change that has begun has the lock, so it is done before macvlan, which needs the lock next,
    /// continues.
    pub(super) fn cancel_pending(&self, attachment: &Attachment) {
        let mut queue = self.shared.queue();
        queue
            .pending
            .retain(|change| change.attachment != *attachment);
        queue.current.take_if(|current| current == attachment);
    }

    /// Starts a worker if changes are pending and there is none: the previous one gave up waiting
    /// for the lock, or could not be started.
    pub(super) fn retry(&self) {
        let mut queue = self.shared.queue();
        if queue.has_worker || queue.pending.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let worker = thread::Builder::new().name("host-routes".to_owned());
        match worker.spawn(move || shared.work()) {
            Ok(_) => queue.has_worker = true,
            Err(error) => {
                tracing::warn!(%error, "hostAccess: cannot start a thread to update the host's routes to containers, and will try again");
            }
        }
    }

    /// Waits until no change is pending or under way.
    pub(super) async fn finish(&self) {
        let is_busy = || {
            let queue = self.shared.queue();
            queue.has_worker || !queue.pending.is_empty()
        };
        while is_busy() {
            sleep(FINISH_INTERVAL).await;
        }
    }

    fn push(&self, attachment: &Attachment, target: Option<Target>) {
        let change = Change {
            attachment: attachment.clone(),
            target,
            attempts: ATTEMPTS,
        };
        self.cancel_pending(attachment);
        self.shared.queue().pending.push_back(change);
        self.retry();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No panic can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes until none is pending, or until one has to wait.
    fn work(&self) {
        loop {
            // The lock first: a change that was taken from the queue is done before any other
            // process gets the lock.
            let access = HostLock::acquire_within(HOST_LOCK_WAIT)
                .and_then(|lock| HostAccess::new(&self.own, lock));
            let mut queue = self.queue();
            let (access, change) = match (access, queue.pending.pop_front()) {
                (Ok(access), Some(change)) => (access, change),
                (_, None) => {
                    queue.has_worker = false;
                    return;
                }
                (Err(error), Some(change)) => {
                    queue.pending.push_front(change);
                    queue.has_worker = false;
                    let changes = queue.pending.len();
                    tracing::warn!(%error, changes, "hostAccess: cannot update the host's routes to containers yet, and will try again");
                    return;
                }
            };
            queue.current = Some(change.attachment.clone());
            drop(queue);
            let failed = self.try_change(&access, change);
            let mut queue = self.queue();
            let is_current = queue.current.take().is_some();
            if let Some(failed) = failed.filter(|_| is_current) {
                queue.pending.push_back(failed);
                queue.has_worker = false;
                return;
            }
        }
    }

    /// Makes a change. Returns it if it failed and should be tried again.
    fn try_change(&self, access: &HostAccess, change: Change) -> Option<Change> {
        let attachment = &change.attachment;
        // A bug that one container triggers must not affect the routes to others.
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.apply(access, attachment, change.target.as_ref())
        }));
        match done {
            Ok(Ok(Some(text))) => tracing::info!(%attachment, "{text}"),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                match &error {
                    Error::Refused(refusal) => {
                        let advice = refusal.advice();
                        tracing::warn!(%attachment, "hostAccess: the host has no route to the container: {refusal} ({advice})");
                    }
                    _ => {
                        tracing::error!(%attachment, %error, "hostAccess: cannot update the host's route to the container");
                    }
                }
                return change.after(&error);
            }
            Err(_) => {
                tracing::error!(%attachment, "updating the host's route panicked; this is a bug");
            }
        }
        None
    }

    /// Applies a change, and returns what was changed, if anything.
    fn apply(
        &self,
        access: &HostAccess,
        attachment: &Attachment,
        target: Option<&Target>,
    ) -> Result<Option<String>, Error> {
        let tag = AttachmentTag::new(attachment);
        // IPv6 routes do not depend on the lease.
        let is_ours = |other: AttachmentTag, to: IpAddr| other == tag && to.is_ipv4();
        let before = access.routes()?.into_iter();
        let before = before.filter(|route| is_ours(route.tag, route.to));
        let before: Vec<IpAddr> = before.map(|route| route.to).collect();
        let reached = match target {
            Some(target) => self.attach(access, attachment, target).or_else(|error| {
                // The address of a route that is there is the container's no more. A shim that was
                // created for an attempt that failed has no route, and is removed.
                let is_refused = matches!(error, Error::Refused(_));
                access.detach(|other, to| is_refused && is_ours(other, to))?;
                Err(error)
            })?,
            None => None,
        };
        access.detach(|other, to| is_ours(other, to) && Some(to) != reached)?;
        Ok(difference(&before, reached))
    }

    /// Makes the host reach the container, and returns the container's address; `None` if the
    /// container is gone.
    fn attach(
        &self,
        access: &HostAccess,
        attachment: &Attachment,
        target: &Target,
    ) -> Result<Option<IpAddr>, Error> {
        let pinned = target.pinned_netns.as_ref();
        let (netns, link) = match target.interface.lookup(attachment, pinned) {
            Ok(found) => found,
            Err(unreachable) if unreachable.is_gone() => return Ok(None),
            Err(temporary) => return Err(temporary.into()),
        };
        let inside = Netlink::open_in(&netns)?;
        let (Some(parent), Some(number)) = (link.parent, link.parent_netnsid) else {
            return Err(Error::OtherNetns(link.name));
        };
        if inside.nsid(&self.own)? != Some(number) {
            return Err(Error::OtherNetns(link.name));
        }
        let to = IpAddr::V4(target.net.addr());
        let tag = AttachmentTag::new(attachment);
        let reachable = access.attach(parent, tag, &[to], &target.key)?;
        let on_link = [target.net.into()];
        for route in return_routes(&reachable, link.index, &on_link, target.source_routing) {
            inside.replace_route(&route)?;
        }
        Ok(Some(to))
    }
}

/// What has changed for the host that reached the container at these addresses; `None` if nothing
/// has.
fn difference(before: &[IpAddr], now: Option<IpAddr>) -> Option<String> {
    match now {
        Some(to) if before.contains(&to) => None,
        Some(to) => Some(format!("the host now has a route to the container at {to}")),
        None if before.is_empty() => None,
        None => Some("the host no longer has a route to the container".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::time::timeout;

    use super::*;

    fn attachment(container: &str) -> Attachment {
        Attachment::new(container, "lan", "eth0").expect("valid names")
    }

    fn waiting() -> HostRouteWorker {
        let worker = HostRouteWorker::new().expect("the process's own netns");
        suspend(&worker);
        worker
    }

    /// Leaves the queue as it is from now on, as if its worker were waiting for the lock.
    pub(in crate::daemon) fn suspend(worker: &HostRouteWorker) {
        worker.shared.queue().has_worker = true;
    }

    /// The attachments whose routes are to be changed.
    pub(in crate::daemon) fn pending(worker: &HostRouteWorker) -> Vec<Attachment> {
        let queue = worker.shared.queue();
        let changes = queue.pending.iter();
        changes.map(|change| change.attachment.clone()).collect()
    }

    #[tokio::test]
    async fn the_daemon_waits_for_changes_that_are_pending_or_under_way() {
        let worker = waiting();
        let is_finished = async || {
            let finished = timeout(Duration::from_millis(20), worker.finish());
            finished.await.is_ok()
        };
        assert!(!is_finished().await, "one is under way");
        worker.remove(&attachment("c1"));
        worker.shared.queue().has_worker = false;
        assert!(!is_finished().await, "one is pending");
        worker.cancel_pending(&attachment("c1"));
        assert!(is_finished().await);
    }

    #[test]
    fn only_the_last_change_of_an_attachment_is_made_unless_it_is_cancelled() {
        let worker = waiting();
        let [one, other] = ["c1", "c2"].map(attachment);
        for changed in [&one, &other, &one] {
            worker.remove(changed);
        }
        assert_eq!(pending(&worker), [other.clone(), one.clone()]);
        worker.shared.queue().current = Some(other.clone());
        worker.cancel_pending(&one);
        assert_eq!(pending(&worker), std::slice::from_ref(&other));
        assert_eq!(worker.shared.queue().current.as_ref(), Some(&other));
        worker.cancel_pending(&other);
        assert!(pending(&worker).is_empty());
        assert_eq!(worker.shared.queue().current, None);
    }

    #[test]
    fn without_changes_there_is_no_worker() {
        let worker = HostRouteWorker::new().expect("the process's own netns");
        worker.retry();
        assert!(!worker.shared.queue().has_worker);
    }

    #[test]
    fn a_change_that_may_pass_is_tried_three_times() {
        let change = || Change {
            attachment: attachment("c1"),
            target: None,
            attempts: ATTEMPTS,
        };
        let passing = Error::Unreachable(Unreachable::NetnsGone);
        let again = |change: Change| change.after(&passing);
        let twice = again(change()).and_then(again);
        assert!(twice.is_some());
        assert!(twice.and_then(again).is_none(), "three times are enough");
        let lasting = Error::OtherNetns("eth0".to_owned());
        assert!(change().after(&lasting).is_none());
    }

    #[test]
    fn only_a_route_that_comes_or_goes_is_worth_a_line() {
        let [one, other] = [1, 2].map(|host| IpAddr::from([10, 0, 0, host]));
        let says = |before: &[IpAddr], now| difference(before, now).unwrap_or_default();
        assert_eq!(says(&[], None), "");
        assert_eq!(says(&[one], Some(one)), "");
        assert!(says(&[], Some(one)).ends_with("at 10.0.0.1"));
        assert!(says(&[one], Some(other)).ends_with("at 10.0.0.2"));
        assert!(says(&[one], None).contains("no longer"));
    }
}
