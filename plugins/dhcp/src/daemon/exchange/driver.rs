//! Drives a DHCP client over its sockets: waits for packets, passes them to the client, and sends
//! its messages. All decisions of the protocol are the client's.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;

use dhcp4::{Client, Delivery, Event, Instant, StateName, Transmit};
use tokio::time::sleep;

use super::sockets::{Incoming, Sockets};
use super::wire::Wire;

/// The clock of all leases.
pub(crate) fn now() -> Instant {
    Instant::from_boot(linknet::boottime())
}

/// Runs the client until something happens to its lease; `None` if it is bound and waits only for
/// time to pass. `wire` remembers where the server is.
///
/// # Errors
/// If no socket can be opened because the interface is gone. A message that cannot be sent counts
/// as lost on the way: the client sends it again.
pub(crate) async fn next_event(
    client: &RefCell<Client>,
    sockets: &mut Sockets<'_>,
    wire: &Wire,
) -> io::Result<Option<Event>> {
    loop {
        let awaited = client.borrow().awaited();
        sockets.listen(awaited)?;
        while let Some(transmit) = next_transmit(client) {
            if let Delivery::Unicast { source, server } = transmit.delivery {
                if wire.is_server_in_doubt() {
                    look_up_server(client, sockets, wire, source, server).await;
                }
                wire.note_asked();
            }
            send(sockets, wire, &transmit);
        }
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
                    Ok(()) => wire.note_answered(mac),
                    Err(ignored) => tracing::debug!(%from, "{ignored}"),
                }
            }
            () = sleep_until(due) => client.borrow_mut().handle_timeout(now()),
        }
    }
}

/// Sends everything that the client has to send, without waiting: to the server as it was last
/// heard from.
pub(crate) fn flush(client: &RefCell<Client>, sockets: &mut Sockets<'_>, wire: &Wire) {
    while let Some(transmit) = next_transmit(client) {
        send(sockets, wire, &transmit);
    }
}

fn next_transmit(client: &RefCell<Client>) -> Option<Transmit> {
    client.borrow_mut().poll_transmit()
}

fn send(sockets: &mut Sockets<'_>, wire: &Wire, transmit: &Transmit) {
    if let Err(error) = sockets.send(transmit, wire.server_mac()) {
        tracing::warn!(%error, "cannot send a message");
    }
}

/// Asks by ARP for the server, or for the router on the way to it. Without an answer, it stays
/// where it was last heard from.
async fn look_up_server(
    client: &RefCell<Client>,
    sockets: &Sockets<'_>,
    wire: &Wire,
    leased: Ipv4Addr,
    server: Ipv4Addr,
) {
    let next_hop = client
        .borrow()
        .lease()
        .map_or(server, |lease| lease.next_hop(server));
    match sockets.look_up(leased, next_hop).await {
        Ok(Some(mac)) => wire.note_looked_up(mac),
        Ok(None) => tracing::debug!(%next_hop, "no answer to ARP requests"),
        Err(error) => tracing::debug!(%next_hop, %error, "cannot ask by ARP"),
    }
}

/// Sleeps until this time; for ever if there is none.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep(time.since(now())).await,
        None => std::future::pending().await,
    }
}
