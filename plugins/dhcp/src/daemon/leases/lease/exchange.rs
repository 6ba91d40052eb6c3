//! What a lease exchanges with servers: acquiring it, and maintaining it.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use cni::{Attachment, Error, code};
use dhcp4::{Event, Lease, LossReason};
use linknet::{Link, Netlink, Netns};
use rustix::io::Errno;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::field::display;

use super::ManagedLease;
use crate::daemon::error::io_failure;
use crate::daemon::exchange::{Permit, Sockets, find_contender, is_too_long, next_event, now};
use crate::daemon::interface::{self, LeaseChange};
use crate::daemon::leases::lost_address::LostAddress;
use crate::protocol::ConflictDetection;
use crate::state::Unreachable;

/// How often an exchange without an answer checks that its container still exists. Without this
/// check, an exchange that no server answers would keep alive a netns that nothing else uses.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(3);

/// How long a lease whose servers are silent is maintained before others have their turn: longer
/// than [`LIVENESS_INTERVAL`], so that each turn looks at the container.
const TURN: Duration = Duration::from_secs(4);

/// How long an answer to the last message is waited for before the turn is over. Servers answer
/// within milliseconds, and slow ones within a second or two.
const ANSWER_TIME: Duration = Duration::from_secs(2);

impl ManagedLease {
    /// Asks servers until there is an address. Calls `before_use` with each address that a server
    /// grants, before it is probed or used. An address that has an `other_holder` is declined.
    ///
    /// # Errors
    /// `IO_FAILURE` (5) if the interface disappears, `INVALID_NETWORK_CONFIG` (7) if the messages
    /// do not fit into its MTU, `TRY_AGAIN_LATER` (11) if descriptors are short. Silence is no
    /// error: the caller decides how long to wait, and [`ManagedLease::report`] says how far it
    /// got.
    pub(in crate::daemon::leases) async fn acquire(
        &self,
        netns: &Netns,
        link: &Link,
        sockets: &mut Sockets<'_>,
        other_holder: impl Fn(Ipv4Addr) -> Option<Attachment>,
        before_use: impl Fn(Ipv4Addr),
    ) -> Result<(), Error> {
        let failure = |error: io::Error| {
            let what = format!("cannot request an address on {}", self.interface.ifname);
            match is_too_long(&error) {
                true => messages_too_long(&what, link),
                false => io_failure(what, &error),
            }
        };
        loop {
            let event = tokio::select! {
                biased;
                () = self.carrier_restored.notified() => {
                    self.client.borrow_mut().link_restored(now());
                    continue;
                }
                event = next_event(&self.client, sockets, &self.wire) => event,
                () = self.interface_gone(netns) => Err(Errno::NODEV.into()),
            };
            match event.map_err(failure)? {
                Some(Event::Bound(lease)) => {
                    before_use(lease.address);
                    if self.on_change().keeps_address() {
                        self.client.borrow_mut().require_address(lease.address);
                    }
                    let applied = &mut self.applied.borrow_mut();
                    let adopted = interface::adopt_mtu(netns, link, &self.params, applied, &lease);
                    if let Err(error) = adopted {
                        tracing::error!(%error, "cannot set the MTU that the server sent");
                    }
                    self.client.borrow_mut().forget_report();
                    return Ok(());
                }
                Some(Event::Granted(lease)) => match other_holder(lease.address) {
                    Some(holder) => self.decline(&lease, &holder),
                    None => {
                        before_use(lease.address);
                        self.confirm(netns, &lease).await.map_err(failure)?;
                    }
                },
                Some(Event::Renewed { .. }) | None => return Ok(()),
                Some(Event::Lost { .. } | Event::OtherOffered { .. }) => {}
            }
        }
    }

    /// Returns once the interface is no longer in the netns, which may have no path any more.
    async fn interface_gone(&self, netns: &Netns) {
        loop {
            sleep(LIVENESS_INTERVAL).await;
            let netlink = Netlink::open_in(netns);
            let link = netlink.and_then(|netlink| netlink.link_by_index(self.interface.ifindex));
            if matches!(link, Ok(None)) {
                return;
            }
        }
    }

    /// Declines an address that another container of ours has leased.
    fn decline(&self, lease: &Lease, holder: &Attachment) {
        let (attachment, address, server) = (&self.attachment, lease.address, lease.server_id);
        tracing::warn!(%attachment, %address, %server, %holder, "address declined: another container has leased it, which the server may have forgotten");
        self.client.borrow_mut().decline(now());
    }

    /// Accepts the address that a server granted, or declines it if another host has it.
    async fn confirm(&self, netns: &Netns, lease: &Lease) -> io::Result<()> {
        let (address, detection) = (lease.address, self.params.conflict_detection);
        if detection != ConflictDetection::Off {
            self.guard_or_log(netns, Some(address));
        }
        let contender = find_contender(netns, self.interface.ifindex, address, detection).await?;
        let mut client = self.client.borrow_mut();
        match contender {
            None => client.accept(now()),
            Some(mac) => {
                let server = lease.server_id;
                tracing::warn!(%address, %mac, %server, "address declined: another host has it");
                self.guard_or_log(netns, None);
                client.decline(now())
            }
        };
        Ok(())
    }

    /// Renews, rebinds or starts over, as is due, until the lease is active again, or until servers
    /// have been silent for a [`TURN`]: the lease is maintained again when it is due, and others
    /// have their turn meanwhile. Updates the container's interface, and calls `on_applied` after
    /// each change of it. Calls `on_loss` when the lease is lost, before the interface changes. An
    /// address that has an `other_holder` is declined.
    ///
    /// # Errors
    /// If the container is gone, or cannot be inspected.
    pub(in crate::daemon::leases) async fn maintain(
        self: &Rc<Self>,
        permit: Permit,
        other_holder: impl Fn(Ipv4Addr) -> Option<Attachment>,
        on_loss: impl Fn(),
        on_applied: impl Fn(),
    ) -> Result<(), Unreachable> {
        let (netns, link) = self.lookup()?;
        self.adopt_mac(&link);
        self.client.borrow_mut().handle_timeout(now());
        self.set_up_again(&netns);
        // Before the client sends anything: a server answers to the address.
        if self.repair(&netns) {
            on_applied();
        }
        let outcome = self
            .exchange(&netns, permit, other_holder, on_loss, on_applied)
            .await;
        if !matches!(&outcome, Err(unreachable) if unreachable.is_gone()) {
            self.set_down_if_lost(&netns);
        }
        if self.is_bound() {
            self.client.borrow_mut().forget_report();
        }
        outcome
    }

    /// The exchange of [`ManagedLease::maintain`].
    async fn exchange(
        self: &Rc<Self>,
        netns: &Netns,
        permit: Permit,
        other_holder: impl Fn(Ipv4Addr) -> Option<Attachment>,
        on_loss: impl Fn(),
        on_applied: impl Fn(),
    ) -> Result<(), Unreachable> {
        let (began, attachment) = (Instant::now(), &self.attachment);
        let mut sockets = Sockets::new(netns, self.interface.ifindex).with_permit(permit);
        let apply = |event: &str, old: Option<&Lease>, new: Option<&Lease>| {
            self.apply_to_interface(netns, event, LeaseChange { old, new });
            on_applied();
        };
        let lost = LostAddress::none(|lease| apply("address removed", Some(lease), None));
        loop {
            let event = tokio::select! {
                biased;
                () = self.carrier_restored.notified() => {
                    tracing::info!(%attachment, "the parent has regained its carrier; confirming the lease");
                    self.client.borrow_mut().link_restored(now());
                    continue;
                }
                event = lost.limit(next_event(&self.client, &mut sockets, &self.wire)) => event,
                changed = self.interface_changed() => {
                    self.adopt_mac(&changed?);
                    self.guard_or_log(netns, self.address());
                    sockets.close();
                    continue;
                }
                () = self.turn_over(began) => return Ok(()),
            };
            let event = match event {
                // The MTU has become smaller. It may grow again before the lease runs out.
                Err(error) if is_too_long(&error) => continue,
                event => event.map_err(|error| self.classify(error))?,
            };
            match event {
                Some(Event::Renewed { old, new }) => {
                    apply("lease renewed", Some(&old), Some(&new));
                    return Ok(());
                }
                Some(Event::Bound(new)) => {
                    match lost.take_if(|old| old.net() == new.net()) {
                        old @ Some(_) => {
                            apply("the same address leased again", old.as_ref(), Some(&new));
                        }
                        None => {
                            lost.remove();
                            let event = match self.kept_address() {
                                Some(_) => "the same address leased again",
                                None => "another address leased",
                            };
                            apply(event, None, Some(&new));
                        }
                    }
                    self.warn_of_assumptions();
                    self.announce_again();
                    return Ok(());
                }
                Some(Event::Lost { lease, reason }) => {
                    // On disk first: if the daemon is killed in between, the next one knows that
                    // it has to remove the address.
                    on_loss();
                    let address = lease.address;
                    let then = match self.kept_address() {
                        Some(_) => "; asking for this address and no other",
                        None => "",
                    };
                    tracing::warn!(%attachment, %address, "address lost: {reason}{then}");
                    lost.keep(lease);
                    if reason == LossReason::Declined {
                        lost.remove();
                    }
                }
                Some(Event::OtherOffered { address, server }) => {
                    let (kept, key) = (self.kept_address().map(display), self.on_change().name());
                    tracing::warn!(%attachment, address = kept, offered = %address, %server, "another address offered, and not taken: onChange is {key:?}");
                }
                Some(Event::Granted(lease)) => match other_holder(lease.address) {
                    Some(holder) => self.decline(&lease, &holder),
                    None => {
                        let confirmed = lost.limit(self.confirm(netns, &lease)).await;
                        confirmed.map_err(|error| self.classify(error))?;
                    }
                },
                None => return Ok(()),
            }
        }
    }

    /// Returns when an exchange that began at this time has had its turn, and its last message the
    /// time that an answer takes.
    pub(super) async fn turn_over(&self, began: Instant) {
        let turn = match self.is_down.get() {
            // The interface is up meanwhile, and its users see that.
            true => ANSWER_TIME,
            false => TURN,
        };
        let mut end = began + turn;
        while Instant::now() < end {
            sleep_until(end).await;
            let last_sent = self.wire.last_sent().unwrap_or(began);
            end = end.max(last_sent + ANSWER_TIME);
        }
    }

    /// Returns once the interface has another MAC.
    ///
    /// # Errors
    /// If the container is gone.
    async fn interface_changed(&self) -> Result<Link, Unreachable> {
        loop {
            sleep(LIVENESS_INTERVAL).await;
            match self.lookup() {
                Ok((_, link)) if link.mac != Some(self.mac.get()) => return Ok(link),
                Err(unreachable) if unreachable.is_gone() => return Err(unreachable),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The error of an ADD whose messages do not fit into the interface's MTU.
fn messages_too_long(what: &str, link: &Link) -> Error {
    let mtu = link.mtu;
    Error::new(
        code::INVALID_NETWORK_CONFIG,
        format!("{what}: the DHCP messages do not fit into its MTU of {mtu}"),
    )
    .details("send less, for example with `provide`, or raise the MTU")
}

#[cfg(test)]
mod tests {
    use linknet::Mac;
    use tokio::time::timeout;

    use super::*;
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::state::InterfaceRef;
    use crate::state::tests::{loopback, record};

    const LONG: Duration = Duration::from_secs(60);

    fn lease_on(interface: InterfaceRef) -> ManagedLease {
        let mut record = record();
        record.interface = interface;
        lease_of(record)
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_notices_another_mac_and_a_container_that_is_gone() {
        let changed = async |interface| {
            let began = Instant::now();
            let lease = lease_on(interface);
            let changed = timeout(LONG, lease.interface_changed()).await.ok()?;
            assert!(began.elapsed() >= LIVENESS_INTERVAL);
            Some(changed.map(|link| link.index))
        };
        assert_eq!(changed(loopback()).await, None, "nothing has changed");
        let other_mac = loopback().with_mac(Mac([2; 6]));
        assert_eq!(changed(other_mac).await, Some(Ok(1)));
        let mut gone = loopback();
        gone.path = "/nonexistent".into();
        assert_eq!(changed(gone).await, Some(Err(Unreachable::NetnsGone)));
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut unclear = loopback();
        unclear.path = scratch.path().join("circle");
        std::os::unix::fs::symlink(&unclear.path, &unclear.path).expect("a link to itself");
        assert_eq!(changed(unclear).await, None, "it may be there");
    }

    #[tokio::test(start_paused = true)]
    async fn an_add_ends_with_its_interface() {
        let netns = Netns::current().expect("the process's own netns");
        let is_gone = async |interface| {
            let lease = lease_on(interface);
            timeout(LONG, lease.interface_gone(&netns)).await.is_ok()
        };
        assert!(!is_gone(loopback()).await);
        let mut gone = loopback();
        gone.ifindex = u32::MAX >> 1;
        assert!(is_gone(gone).await);
    }

    #[test]
    fn messages_that_do_not_fit_into_the_mtu_are_a_mistake_of_the_configuration() {
        let link = Link {
            mtu: 68,
            ..Link::default()
        };
        let error = messages_too_long("cannot request an address", &link);
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        assert!(error.msg.contains("MTU of 68"), "{error}");
    }
}
