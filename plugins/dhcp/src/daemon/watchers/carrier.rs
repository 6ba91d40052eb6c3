//! Parents that regain their carrier: the cable may be in another switch now, so the leases on them
//! are confirmed with the server.
//!
//! There is one netlink socket, in the daemon's own netns, which is usually the host's. A daemon in
//! another netns sees no parent, and its leases notice a new network when they are renewed. The
//! same happens while the kernel refuses the socket, or cannot list the links because they change
//! all the time.

use std::collections::HashMap;
use std::io;

use linknet::{Link, LinkEvents, LinkWatch, Netlink};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::async_fd::watch;
use super::backoff::Backoff;

/// The carriers of all links of the daemon's netns.
#[derive(Debug, Default)]
pub(crate) struct CarrierWatcher {
    /// `None` after an error.
    events: Option<AsyncFd<LinkWatch>>,
    /// By the link's index.
    carriers: HashMap<u32, bool>,
}

impl CarrierWatcher {
    /// Starts with the carriers as they are now. Needs a tokio runtime.
    pub(crate) fn new() -> CarrierWatcher {
        let mut watcher = CarrierWatcher::default();
        // If this fails, `restored` tries again, and reports it.
        let _ = watcher.open();
        watcher
    }

    /// Waits until links regain the carrier that they had lost, and returns their indices.
    pub(crate) async fn restored(&mut self) -> Vec<u32> {
        let mut backoff = Backoff::new();
        loop {
            match self.next().await {
                Ok(restored) if restored.is_empty() => backoff = Backoff::new(),
                Ok(restored) => return restored,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch the carriers of links, and will try again; until then, leases are not confirmed when a cable is plugged in");
                    self.events = None;
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Begins with a new socket. Returns the links that have regained their carrier.
    fn open(&mut self) -> io::Result<Vec<u32>> {
        // The socket first: a change after the links are listed is an event.
        let events = watch(LinkWatch::open().map_err(io::Error::other)?)?;
        let restored = self.update_all(&all_links()?);
        self.events = Some(events);
        Ok(restored)
    }

    /// Waits until links change, and returns those that have regained their carrier.
    async fn next(&mut self) -> io::Result<Vec<u32>> {
        let Some(events) = &self.events else {
            return self.open();
        };
        let mut ready = events.readable().await?;
        match ready.get_inner().next()? {
            LinkEvents::None => {
                ready.clear_ready();
                Ok(Vec::new())
            }
            LinkEvents::Changes { changed, removed } => {
                self.carriers.retain(|index, _| !removed.contains(index));
                Ok(self.update(&changed))
            }
            LinkEvents::Overflow => Ok(self.update_all(&all_links()?)),
        }
    }

    /// Like [`CarrierWatcher::update`], and forgets all other links.
    fn update_all(&mut self, links: &[Link]) -> Vec<u32> {
        self.carriers
            .retain(|index, _| links.iter().any(|link| link.index == *index));
        self.update(links)
    }

    /// Returns the links that have regained their carrier.
    fn update(&mut self, links: &[Link]) -> Vec<u32> {
        let mut has_returned = |link: &&Link| {
            self.carriers.insert(link.index, link.carrier) == Some(false) && link.carrier
        };
        links
            .iter()
            .filter(|link| has_returned(link))
            .map(|link| link.index)
            .collect()
    }
}

fn all_links() -> io::Result<Vec<Link>> {
    Netlink::open()
        .and_then(|netlink| netlink.links())
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, carrier: bool) -> Link {
        Link {
            index,
            carrier,
            ..Link::default()
        }
    }

    #[test]
    fn a_carrier_is_restored_on_a_link_that_had_lost_it() {
        let mut watcher = CarrierWatcher::default();
        assert!(watcher.update(&[link(1, true), link(2, false)]).is_empty());
        assert!(watcher.update(&[link(1, true), link(2, false)]).is_empty());
        assert_eq!(watcher.update(&[link(1, true), link(2, true)]), [2]);
        assert!(watcher.update(&[link(1, false)]).is_empty());
        assert_eq!(watcher.update(&[link(1, true), link(2, true)]), [1]);
    }

    #[test]
    fn links_that_are_not_listed_any_more_are_forgotten() {
        let mut watcher = CarrierWatcher::default();
        watcher.update(&[link(1, false), link(2, false)]);
        assert_eq!(watcher.update_all(&[link(2, true)]), [2]);
        assert!(watcher.update(&[link(1, true)]).is_empty(), "a new link");
    }
}
