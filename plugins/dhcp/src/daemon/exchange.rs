//! Drives a DHCP client over its sockets: wait, feed, send. Takes no decision of the protocol.

use std::cell::{Cell, RefCell};
use std::io;

use dhcp4::{Client, Event, Instant, StateName};
use linknet::Mac;
use tokio::time::sleep;

use super::sockets::{Arrived, Sockets};

/// The clock that all leases live by.
pub(crate) fn now() -> Instant {
    Instant::from_boot(linknet::boottime())
}

/// Runs the client until something happens to its lease; `None` when it has one and waits for
/// nothing but time to pass.
///
/// `server_mac` keeps the link-layer address that the last message heeded came from: the server's,
/// or its relay's.
///
/// # Errors
/// Only when no socket can be had any more, because the interface is gone. A message that cannot be
/// sent is as good as lost on the way, and the client sends it again in time.
pub(crate) async fn next_event(
    client: &RefCell<Client>,
    sockets: &mut Sockets,
    server_mac: &Cell<Option<Mac>>,
) -> io::Result<Option<Event>> {
    loop {
        sockets.listen(client.borrow().listen())?;
        flush(client, sockets, server_mac);
        if let Some(event) = client.borrow_mut().poll_event() {
            return Ok(Some(event));
        }
        if client.borrow().state() == StateName::Bound {
            return Ok(None);
        }
        let due = client.borrow().poll_timeout();
        tokio::select! {
            arrived = sockets.receive() => {
                let Arrived { payload, from, mac } = arrived?;
                match client.borrow_mut().handle_packet(now(), &payload, from) {
                    Ok(()) => server_mac.set(mac.or(server_mac.get())),
                    Err(ignored) => tracing::debug!(%from, "{ignored}"),
                }
            }
            () = until(due) => client.borrow_mut().handle_timeout(now()),
        }
    }
}

/// Sends what the client has to say.
pub(crate) fn flush(
    client: &RefCell<Client>,
    sockets: &mut Sockets,
    server_mac: &Cell<Option<Mac>>,
) {
    while let Some(transmit) = client.borrow_mut().poll_transmit() {
        if let Err(error) = sockets.send(&transmit, server_mac.get()) {
            tracing::warn!(%error, "a message could not be sent");
        }
    }
}

/// Sleeps until then; for ever if there is no such time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep(due.since(now())).await,
        None => std::future::pending().await,
    }
}
