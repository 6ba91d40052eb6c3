//! ARP on the container's interface, for [`find_contender`](super::find_contender),
//! [`announce`](super::announce) and [`look_up`].

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use linknet::{ArpSocket, Mac, Netns};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::mark::mark;
use crate::daemon::watchers::{close_on_thread, watch};

/// How often an address is asked for, and how long each answer is waited for.
const REQUESTS: u32 = 3;
const REPLY_TIMEOUT: Duration = Duration::from_millis(300);

/// Asks for the MAC of an address on a link in this netns, from the leased address. It works
/// without the kernel's neighbour table, whose size limits all containers together. `None` if
/// nobody answers.
///
/// # Errors
/// If the link is gone.
pub(super) async fn look_up(
    netns: &Netns,
    ifindex: u32,
    leased: Ipv4Addr,
    address: Ipv4Addr,
) -> io::Result<Option<Mac>> {
    let socket = AsyncArp::open(netns, ifindex)?;
    for _ in 0..REQUESTS {
        socket.send(|socket| socket.request(leased, address))?;
        let owner = socket.receive(REPLY_TIMEOUT, |socket| socket.owner(address));
        if let Some(mac) = owner.await? {
            return Ok(Some(mac));
        }
    }
    Ok(None)
}

/// An ARP socket that is closed on another thread.
pub(super) struct AsyncArp(Option<AsyncFd<ArpSocket>>);

impl AsyncArp {
    /// Opens a socket on a link in this netns.
    ///
    /// # Errors
    /// If the link is gone, or descriptors are short.
    pub(super) fn open(netns: &Netns, ifindex: u32) -> io::Result<AsyncArp> {
        let socket = netns
            .run(|| ArpSocket::open(ifindex))?
            .map_err(io::Error::other)?;
        mark(|mark| socket.set_mark(mark));
        Ok(AsyncArp(Some(watch(socket)?)))
    }

    /// Sends a packet. One that the link has no room for counts as lost on the way.
    pub(super) fn send(&self, send: impl Fn(&ArpSocket) -> io::Result<()>) -> io::Result<()> {
        sent_or_lost(send(self.socket()?.get_ref()))
    }

    /// Receives packets for this long, or until `find` finds something.
    pub(super) async fn receive<T>(
        &self,
        within: Duration,
        find: impl Fn(&ArpSocket) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let receive = async {
            loop {
                let mut ready = self.socket()?.readable().await?;
                match find(ready.get_inner())? {
                    None => ready.clear_ready(),
                    found => return Ok(found),
                }
            }
        };
        timeout(within, receive).await.unwrap_or(Ok(None))
    }

    fn socket(&self) -> io::Result<&AsyncFd<ArpSocket>> {
        self.0
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for AsyncArp {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            close_on_thread(socket.into_inner());
        }
    }
}

/// The outcome of sending a packet, which is lost on the way if the link has no room for it.
fn sent_or_lost(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_the_link_has_no_room_for_is_lost_and_no_error() {
        assert!(sent_or_lost(Err(io::ErrorKind::WouldBlock.into())).is_ok());
        assert!(sent_or_lost(Err(io::ErrorKind::NetworkDown.into())).is_err());
    }
}
