//! Drives a DHCP client over its sockets: waits for packets, passes them to the client, and sends
//! its messages. All decisions of the protocol are the client's.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::{Client, Delivery, Event, Instant, StateName, Transmit};
use tokio::time::sleep;

use super::sockets::{Incoming, Sockets};
use super::wire::Wire;

/// The clock of all leases.
pub(crate) fn now() -> Instant {
    Instant::from_boot(linknet::boottime())
}

/// Runs the client until something happens to its lease; `None` if it is bound and waits only for
/// time to pass. `wire` remembers where the server is, and what went wrong.
///
/// # Errors
/// If no socket can be opened because the interface is gone, or if a message [`is_too_long`] for
/// the interface. A message that cannot be sent for another reason counts as lost on the way: the
/// client sends it again.
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
            match send(client, sockets, wire, &transmit) {
                Err(error) if is_too_long(&error) => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(event) = client.borrow_mut().poll_event() {
            return Ok(Some(event));
        }
        if client.borrow().state() == StateName::Bound {
            return Ok(None);
        }
        let due = client.borrow().poll_timeout();
        tokio::select! {
            incoming = sockets.receive(wire) => {
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

/// Sends what the client has to send, without waiting: to the server as it was last heard from.
/// `before` is called with the IP source first.
///
/// # Errors
/// If it cannot be sent. The client does not send it again.
pub(crate) fn flush(
    client: &RefCell<Client>,
    sockets: &mut Sockets<'_>,
    wire: &Wire,
    before: impl FnOnce(Ipv4Addr),
) -> io::Result<()> {
    let Some(transmit) = next_transmit(client) else {
        return Ok(());
    };
    let (Delivery::Broadcast { source } | Delivery::Unicast { source, .. }) = transmit.delivery;
    before(source);
    send(client, sockets, wire, &transmit)
}

/// Whether a message could not be sent because it does not fit into the interface's MTU. A client's
/// messages grow with its configuration, so it will not fit later either.
pub(crate) fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

fn next_transmit(client: &RefCell<Client>) -> Option<Transmit> {
    client.borrow_mut().poll_transmit()
}

fn send(
    client: &RefCell<Client>,
    sockets: &mut Sockets<'_>,
    wire: &Wire,
    transmit: &Transmit,
) -> io::Result<()> {
    wire.note_sent();
    let sent = sockets.send(transmit, wire.server_mac());
    match &sent {
        Ok(()) => client.borrow_mut().note_sent(transmit.kind),
        Err(error) => {
            wire.note_unsent(error);
            tracing::warn!(kind = %transmit.kind, %error, "cannot send a message");
        }
    }
    sent
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

/// How often the clock is looked at during a long wait. The runtime's timers stand still while the
/// machine is suspended, and the leases' clock does not.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// Sleeps until this time; for ever if there is none.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_by(time, now, CLOCK_INTERVAL).await,
        None => std::future::pending().await,
    }
}

/// Sleeps until this time on a clock that is looked at this often.
async fn sleep_by(time: Instant, clock: impl Fn() -> Instant, interval: Duration) {
    loop {
        let left = time.since(clock());
        if left.is_zero() {
            return;
        }
        sleep(left.min(interval)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_its_time_although_the_machine_was_suspended_meanwhile() {
        let start = now();
        let looks = Cell::new(0);
        let clock = || {
            looks.set(looks.get() + 1);
            // Suspended for a day, between the first look and the second.
            start + Duration::from_secs(if looks.get() == 1 { 0 } else { 86400 })
        };
        let hour = start + Duration::from_secs(3600);
        let wait = sleep_by(hour, clock, Duration::from_millis(1));
        assert!(timeout(Duration::from_secs(60), wait).await.is_ok());
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn only_a_message_that_does_not_fit_is_too_long() {
        assert!(is_too_long(&rustix::io::Errno::MSGSIZE.into()));
        assert!(!is_too_long(&rustix::io::Errno::NETDOWN.into()));
    }
}
