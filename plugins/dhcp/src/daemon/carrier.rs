//! Parents whose carrier comes back: the cable may be in another switch now, so the leases on them
//! are asked for again.
//!
//! One netlink socket in the daemon's own netns, which is the host's as a rule. A daemon in a netns
//! of its own hears of no parent, and its leases learn of a new network when they are renewed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use linknet::{Link, LinkEvents, LinkWatch, Netlink};
use tokio::io::unix::AsyncFd;

use super::watch::watch;

/// The carriers of all links of our netns.
#[derive(Debug)]
pub(crate) struct Carriers {
    links: AsyncFd<LinkWatch>,
    /// By the link's index.
    carriers: RefCell<HashMap<u32, bool>>,
}

impl Carriers {
    /// As they are now. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<Carriers> {
        let links = watch(LinkWatch::open().map_err(io::Error::other)?)?;
        let carriers = Carriers {
            links,
            carriers: RefCell::default(),
        };
        carriers.update(&all()?);
        Ok(carriers)
    }

    /// Waits until links have their carrier back that they had lost, and returns their indices.
    pub(crate) async fn restored(&self) -> io::Result<Vec<u32>> {
        loop {
            let mut ready = self.links.readable().await?;
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
                LinkEvents::Overflow => self.update(&all()?),
            };
            if !restored.is_empty() {
                return Ok(restored);
            }
        }
    }

    fn update(&self, links: &[Link]) -> Vec<u32> {
        let mut carriers = self.carriers.borrow_mut();
        let mut came_back =
            |link: &&Link| carriers.insert(link.index, link.carrier) == Some(false) && link.carrier;
        links
            .iter()
            .filter(|link| came_back(link))
            .map(|link| link.index)
            .collect()
    }
}

fn all() -> io::Result<Vec<Link>> {
    Netlink::open()
        .and_then(|netlink| netlink.links())
        .map_err(io::Error::other)
}
