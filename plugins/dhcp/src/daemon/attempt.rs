//! An attempt to win a lease, bounded in time, and undone when it is given up.

use std::time::Duration;

use cni::{Error, code};
use linknet::Netns;
use tokio::time::{Instant, timeout_at};

use super::lease::Held;
use super::sockets::Sockets;

/// An attempt to win a lease. Dropped before it is won, it gives back what a server may have set
/// aside for it.
pub(crate) struct Attempt {
    held: Option<Held>,
    sockets: Sockets,
}

impl Attempt {
    /// An attempt of this client, over these sockets.
    pub(crate) fn new(held: Held, sockets: Sockets) -> Attempt {
        Attempt {
            held: Some(held),
            sockets,
        }
    }

    /// Asks until an address is ours, or until the deadline, which is when `patience` is over.
    ///
    /// # Errors
    /// 11 when no server granted one in time: how far it got, and how the interface is.
    pub(crate) async fn win(
        &mut self,
        netns: &Netns,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Held, Error> {
        let over = || super::internal(&"the attempt is over");
        let held = self.held.as_ref().ok_or_else(over)?;
        match timeout_at(deadline, held.acquire(netns, &mut self.sockets)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let what = format!("no address for {} within {patience:?}", held.place.ifname);
                let details = format!("{}; {}", held.report(), held.health(netns));
                return Err(Error::new(code::TRY_AGAIN_LATER, what).details(details));
            }
        }
        self.held.take().ok_or_else(over)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.release(&mut self.sockets);
        }
    }
}
