//! Parents that regain their carrier: the cable may be in another switch now, so the leases on them
//! are confirmed with the server.
//!
//! There is one netlink socket, in the daemon's own netns, which is usually the host's. A daemon in
//! another netns sees no parent, and its leases notice a new network when they are renewed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use linknet::{Link, LinkEvents, LinkWatch, Netlink};
use tokio::io::unix::AsyncFd;

use super::async_fd::watch;

/// The carriers of all links of the daemon's netns.
#[derive(Debug)]
pub(crate) struct CarrierWatcher {
    events: AsyncFd<LinkWatch>,
    /// By the link's index.
    carriers: RefCell<HashMap<u32, bool>>,
}

impl CarrierWatcher {
    /// Starts with the carriers as they are now. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<CarrierWatcher> {
        let events = watch(LinkWatch::open().map_err(io::Error::other)?)?;
        let watcher = CarrierWatcher {
            events,
            carriers: RefCell::default(),
        };
        watcher.update(&all_links()?);
        Ok(watcher)
    }

    /// Waits until links regain the carrier that they had lost, and returns their indices.
    pub(crate) async fn restored(&self) -> io::Result<Vec<u32>> {
        loop {
            let mut ready = self.events.readable().await?;
            let restored = match ready.get_inner().next()? {
                LinkEvents::None => {
                    ready.clear_ready();
                    continue;
                }
                LinkEvents::Changes { changed, removed } => {
                    self.carriers
                        .borrow_mut()
                        .retain(|index, _| !removed.contains(index));
                    self.update(&changed)
                }
                LinkEvents::Overflow => self.update(&all_links()?),
            };
            if !restored.is_empty() {
                return Ok(restored);
            }
        }
    }

    /// Returns the links that have regained their carrier.
    fn update(&self, links: &[Link]) -> Vec<u32> {
        let mut carriers = self.carriers.borrow_mut();
        let mut has_returned =
            |link: &&Link| carriers.insert(link.index, link.carrier) == Some(false) && link.carrier;
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
