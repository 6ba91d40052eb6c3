//! `hostAccess`: the host's route to a container follows its lease ([`HostAccess`]).
//!
//! The first route is macvlan's to make, when ADD has given the container its address, and the last
//! is its to remove. What happens in between without it happens here: the lease moves, is lost, is
//! had again; the container vanishes.
//!
//! Whoever changes such routes holds a lock that others may have for a while, so it is done beside
//! the event loop, one attachment after the other. What is wanted of an attachment takes the place
//! of what was wanted before.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attachment::host_access::{AttachmentTag, HostAccess, return_routes};
use attachment::{HostLock, SourceRouting};
use cni::Attachment;
use ipnet::Ipv4Net;
use linknet::{Netlink, Netns};

use crate::place::{Gone, Place};

/// How long others may have the lock. They need milliseconds, and a hundred of them may be in line.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the host's route to a container leads.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The container's interface.
    pub(crate) place: Place,
    /// Its netns, where that cannot be found by its path.
    pub(crate) kept: Option<Netns>,
    /// Its address.
    pub(crate) net: Ipv4Net,
    /// Whether the interface has a table of its own.
    pub(crate) source_routing: SourceRouting,
}

/// The host's ways to its containers.
#[derive(Debug)]
pub(crate) struct HostsWays {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The daemon's own netns. It is the host's, unless somebody has put the daemon elsewhere.
    own: Netns,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: VecDeque<(Attachment, Option<Destination>)>,
    is_worked_on: bool,
}

/// Why the host has no way to a container.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Kernel(#[from] linknet::Error),
    #[error(
        "the daemon is not in the network namespace of {0}'s parent, and cannot change the host's routes"
    )]
    Elsewhere(String),
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl HostsWays {
    /// Those of the namespace that the daemon is in.
    pub(crate) fn new() -> io::Result<HostsWays> {
        let own = Netns::current().map_err(io::Error::other)?;
        Ok(HostsWays {
            shared: Arc::new(Shared {
                own,
                queue: Mutex::default(),
            }),
        })
    }

    /// Makes the host reach the container there, and nowhere else. Needs a tokio runtime.
    pub(crate) fn open(&self, attachment: &Attachment, destination: Destination) {
        self.want(attachment, Some(destination));
    }

    /// Removes the host's route to the container. Needs a tokio runtime.
    pub(crate) fn close(&self, attachment: &Attachment) {
        self.want(attachment, None);
    }

    /// The attachment ends, or is another from now on. What was wanted of it will not be done any
    /// more, or is done before macvlan, which goes on now, can have the lock.
    pub(crate) fn forget(&self, attachment: &Attachment) {
        self.shared
            .queue()
            .wanted
            .retain(|(wanted, _)| wanted != attachment);
    }

    fn want(&self, attachment: &Attachment, destination: Option<Destination>) {
        let mut queue = self.shared.queue();
        queue.wanted.retain(|(wanted, _)| wanted != attachment);
        queue.wanted.push_back((attachment.clone(), destination));
        if !queue.is_worked_on {
            queue.is_worked_on = true;
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || shared.work());
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing is done under this lock that could leave the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next one, or says that nobody works any more.
    fn next(&self) -> Option<(Attachment, Option<Destination>)> {
        let mut queue = self.queue();
        let next = queue.wanted.pop_front();
        queue.is_worked_on = next.is_some();
        next
    }

    fn work(&self) {
        loop {
            // The lock first: what is taken out of the queue is done before others have their turn.
            let shims = HostLock::acquire_within(PATIENCE)
                .and_then(|lock| HostAccess::new(&self.own, lock));
            let Some((attachment, destination)) = self.next() else {
                return;
            };
            // A bug costs this one its route, and not all others theirs.
            let done = catch_unwind(AssertUnwindSafe(|| {
                self.lead(&shims?, &attachment, destination)
            }));
            match done {
                Ok(Ok(Some(change))) => tracing::info!(%attachment, "{change}"),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::error!(%attachment, %error, "hostAccess: the host's route to the container could not follow");
                }
                Err(_) => {
                    tracing::error!(%attachment, "changing the host's route failed; this is a bug")
                }
            }
        }
    }

    /// Does what is wanted of an attachment, and says what was changed.
    fn lead(
        &self,
        shims: &HostAccess,
        attachment: &Attachment,
        destination: Option<Destination>,
    ) -> Result<Option<String>, Trouble> {
        let tag = AttachmentTag::new(attachment);
        let before = shims.routes()?;
        let reached = match destination {
            // What could not be finished is nobody's, and goes.
            Some(destination) => self.reach(shims, tag, &destination).or_else(|trouble| {
                shims.detach(|_| false)?;
                Err(trouble)
            })?,
            None => None,
        };
        // Other families are not of the lease.
        shims
            .detach(|route| route.tag == tag && route.to.is_ipv4() && Some(route.to) != reached)?;
        let is_new = |to: &IpAddr| {
            !before
                .iter()
                .any(|route| route.tag == tag && route.to == *to)
        };
        let had = before
            .iter()
            .any(|route| route.tag == tag && route.to.is_ipv4());
        Ok(match reached {
            Some(to) if is_new(&to) => Some(format!("the host reaches the container at {to}")),
            None if had => Some("the host has no route to the container any more".to_owned()),
            Some(_) | None => None,
        })
    }

    /// Makes the host reach the container, and returns the address; `None` if there is no container
    /// any more.
    fn reach(
        &self,
        shims: &HostAccess,
        tag: AttachmentTag,
        destination: &Destination,
    ) -> Result<Option<IpAddr>, Trouble> {
        let Destination {
            place,
            kept,
            net,
            source_routing,
        } = destination;
        let found = match kept {
            Some(netns) => netns
                .try_clone()
                .map_err(|error| Gone::unclear(&error))
                .and_then(|netns| {
                    let link = place.look_at(&netns)?;
                    Ok((netns, link))
                }),
            None => place.reopen(),
        };
        let (netns, link) = match found {
            Ok(found) => found,
            Err(gone) if gone.is_certain() => return Ok(None),
            Err(unclear) => return Err(unclear.into()),
        };
        let inside = Netlink::open_in(&netns)?;
        let (Some(parent), Some(number)) = (link.parent, link.parent_netnsid) else {
            return Err(Trouble::Elsewhere(link.name));
        };
        if inside.nsid(&self.own)? != Some(number) {
            return Err(Trouble::Elsewhere(link.name));
        }
        let to = IpAddr::V4(net.addr());
        let reachable = shims.attach(parent, tag, &[to])?;
        for route in return_routes(&reachable, link.index, &[(*net).into()], *source_routing) {
            inside.replace_route(&route)?;
        }
        Ok(Some(to))
    }
}
