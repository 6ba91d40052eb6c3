//! Drives a DHCP client over its sockets: waits for packets, passes them to the client, and sends
//! its messages. All decisions of the protocol are the client's.

use std::cell::{Cell, RefCell};
use std::io;

use dhcp4::{Client, Event, Instant, StateName};
use linknet::Mac;
use tokio::time::sleep;

use super::sockets::{Incoming, Sockets};

/// The clock of all leases.
pub(crate) fn now() -> Instant {
    Instant::from_boot(linknet::boottime())
}

/// Runs the client until something happens to its lease; `None` if it is bound and waits only for
/// time to pass.
///
/// `server_mac` is updated to the MAC that the last accepted message came from: the server's, or
/// its relay's.
///
/// # Errors
/// If no socket can be opened because the interface is gone. A message that cannot be sent counts
/// as lost on the way: the client sends it again.
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
            incoming = sockets.receive() => {
                let Incoming { payload, from, mac } = incoming?;
                match client.borrow_mut().handle_packet(now(), &payload, from) {
                    Ok(()) => server_mac.set(mac.or(server_mac.get())),
                    Err(ignored) => tracing::debug!(%from, "{ignored}"),
                }
            }
            () = sleep_until(due) => client.borrow_mut().handle_timeout(now()),
        }
    }
}

/// Sends everything that the client has to send.
pub(crate) fn flush(
    client: &RefCell<Client>,
    sockets: &mut Sockets,
    server_mac: &Cell<Option<Mac>>,
) {
    while let Some(transmit) = client.borrow_mut().poll_transmit() {
        if let Err(error) = sockets.send(&transmit, server_mac.get()) {
            tracing::warn!(%error, "cannot send a message");
        }
    }
}

/// Sleeps until this time; for ever if there is none.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep(time.since(now())).await,
        None => std::future::pending().await,
    }
}
