//! A lease that the daemon maintains.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use attachment::Changes;
use cni::{Attachment, CniResult, Error, code};
use dhcp4::{Client, Event, Lease, LossReason, StateName};
use linknet::{Link, Mac, Netlink, Netns};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::field::display;

use super::lan::Lan;
use super::lost_address::LostAddress;
use crate::daemon::error::io_failure;
use crate::daemon::exchange::{
    ANNOUNCE_INTERVAL, Permit, Sockets, Wire, announce, find_contender, flush, is_too_long,
    next_event, now,
};
use crate::daemon::host_routes::Target;
use crate::daemon::interface::{self, Applied, LeaseChange};
use crate::daemon::store::ClientIdentity;
use crate::protocol::{AddId, ConflictDetection, LeaseParams, OnChange, ReleasePolicy};
use crate::state::{InterfaceRef, LeaseStatus, Record, Unreachable};

/// How often an exchange without an answer checks that its container still exists. Without this
/// check, an exchange that no server answers would keep alive a netns that nothing else uses.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(3);

/// How long a lease whose servers are silent is maintained before others have their turn: longer
/// than [`LIVENESS_INTERVAL`], so that each turn looks at the container.
const TURN: Duration = Duration::from_secs(4);

/// How long an answer to the last message is waited for before the turn is over. Servers answer
/// within milliseconds, and slow ones within a second or two.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How many stations are asked by ARP whether anybody hears the container.
const MAX_WITNESSES: usize = 4;

/// How often, and after which pause, a RELEASE that cannot be sent is tried.
const RELEASE_ATTEMPTS: u32 = 5;
const RELEASE_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A lease and everything that is needed to maintain it. While it is idle it has no socket, no
/// thread and usually no open netns.
#[derive(Debug)]
pub(super) struct ManagedLease {
    client: RefCell<Client>,
    attachment: Attachment,
    /// The container's interface.
    pub(super) interface: InterfaceRef,
    /// The interface's MAC, which is the client's.
    mac: Cell<Mac>,
    params: LeaseParams,
    wire: Wire,
    /// What the interface was last brought to.
    applied: RefCell<Applied>,
    /// Whether the last change of the lease could not be applied whole.
    is_unsettled: Cell<bool>,
    /// Whether the interface was set down because its address was lost (`onChange`). It is up for
    /// as long as servers are asked, because nothing can be sent otherwise.
    is_down: Cell<bool>,
    /// The open netns, if the daemon cannot find it by its path, for example because the daemon
    /// runs in a container.
    pinned_netns: Option<Netns>,
    /// The index of the interface's parent, if that is in another netns, which is usually the
    /// host's.
    parent: Cell<Option<u32>>,
    /// The LAN, as it was last known.
    lan: Cell<Option<Lan>>,
    /// Whether the parent has regained its carrier.
    carrier_restored: Notify,
    /// The ADD that obtained the lease, as long as no other was told of it.
    only_add: Cell<Option<AddId>>,
}

impl ManagedLease {
    /// A lease that `client` has yet to obtain for the attachment, for this interface in this
    /// netns.
    pub(super) fn new(
        attachment: &Attachment,
        client: Client,
        interface: InterfaceRef,
        link: &Link,
        params: LeaseParams,
        netns: &Netns,
    ) -> ManagedLease {
        let pinned_netns = match interface.open_netns() {
            Ok(_) => None,
            Err(_) => netns.try_clone().ok(),
        };
        ManagedLease {
            client: RefCell::new(client),
            attachment: attachment.clone(),
            mac: Cell::new(interface.mac),
            interface,
            params,
            wire: Wire::default(),
            applied: RefCell::default(),
            is_unsettled: Cell::default(),
            is_down: Cell::default(),
            pinned_netns,
            parent: Cell::new(parent_in_other_netns(link)),
            lan: Cell::new(Lan::of(netns, link)),
            carrier_restored: Notify::new(),
            only_add: Cell::default(),
        }
    }

    /// The lease of a record, continued by `client`. `pinned_netns` is the netns, if an earlier
    /// [`ManagedLease`] had to keep it open.
    pub(super) fn resumed(
        client: Client,
        record: Record,
        pinned_netns: Option<Netns>,
    ) -> ManagedLease {
        let is_lost = record.status == LeaseStatus::Lost;
        let is_down = is_lost && record.params.on_change == OnChange::Down;
        ManagedLease {
            client: RefCell::new(client),
            attachment: record.attachment,
            mac: Cell::new(record.interface.mac),
            interface: record.interface,
            params: record.params,
            wire: Wire::with_server(record.server_mac),
            applied: RefCell::new(Applied::with_mtu(record.mtu)),
            is_unsettled: Cell::default(),
            is_down: Cell::new(is_down),
            pinned_netns,
            parent: Cell::default(),
            lan: Cell::default(),
            carrier_restored: Notify::new(),
            only_add: Cell::default(),
        }
    }

    /// A copy of the netns, if it had to be kept open.
    pub(super) fn pinned_netns(&self) -> Option<Netns> {
        self.pinned_netns
            .as_ref()
            .and_then(|netns| netns.try_clone().ok())
    }

    /// Whether there is an address for this interface that was obtained with the same parameters.
    pub(super) fn serves(&self, interface: &InterfaceRef, params: &LeaseParams) -> bool {
        self.interface.is_same(interface) && self.params == *params && self.address().is_some()
    }

    /// Whether this ADD obtained the lease, and no other was told of it.
    pub(super) fn belongs_to_only(&self, add: AddId) -> bool {
        self.only_add.get() == Some(add)
    }

    /// Notes the only ADD that knows of the lease; `None` if there are several, or if it has no
    /// number.
    pub(super) fn set_only_add(&self, add: Option<AddId>) {
        self.only_add.set(add);
    }

    /// The lease as a CNI result; `None` while there is no address.
    pub(super) fn result(&self) -> Option<CniResult> {
        let client = self.client.borrow();
        let lease = client.lease()?;
        Some(interface::result(lease, &self.params, now()))
    }

    /// The lease as it is written to disk; `None` while there is no address.
    pub(super) fn record(&self) -> Option<Record> {
        let record = Record::new(
            self.attachment.clone(),
            self.interface.clone().with_mac(self.mac.get()),
            self.params.clone(),
            self.client.borrow().lease()?.clone(),
            self.wire.server_mac(),
        );
        let record = record.with_mtu(self.applied.borrow().mtu());
        Some(record.with_netns_kept(self.pinned_netns.is_some()))
    }

    /// The address; `None` while there is none.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.client.borrow().lease().map(|lease| lease.address)
    }

    /// How servers identify the client.
    pub(super) fn client(&self) -> ClientIdentity {
        ClientIdentity::new(self.attachment.network(), &self.params, self.mac.get())
    }

    /// Whether the interface has another MAC, by which servers take its client for another one.
    pub(super) fn is_other_client_with(&self, link: &Link) -> bool {
        let network = self.attachment.network();
        link.mac.is_some_and(|mac| {
            let client = ClientIdentity::new(network, &self.params, mac);
            !client.is_same_client(&self.client())
        })
    }

    /// Lets the client start over with the MAC that the interface has now. The address is removed,
    /// and not released, because another client has it.
    pub(super) fn start_over(&self, netns: &Netns, link: &Link) {
        let lost = self.client.borrow().lease().cloned();
        self.adopt_mac(link);
        let client = &self.client;
        // A RELEASE under the old identity, and the event for it.
        client.borrow_mut().poll_transmit();
        client.borrow_mut().poll_event();
        if let Some(lost) = lost {
            self.remove_address(netns, &lost);
        }
    }

    /// Makes the next maintenance confirm the lease with the server.
    pub(super) fn reconfirm(&self) {
        self.client.borrow_mut().link_restored(now());
    }

    /// Whether a server may serve this client and the other one, because they may be on one LAN.
    pub(super) fn may_share_lan(&self, other: &ManagedLease) -> bool {
        Lan::may_be_same(self.lan(), other.lan())
    }

    /// The LAN; `None` if it is unknown.
    pub(super) fn lan(&self) -> Option<Lan> {
        if let Ok((netns, link)) = self.lookup() {
            self.lan.set(Lan::of(&netns, &link));
        }
        self.lan.get()
    }

    /// Stations that should answer an ARP request: the server, or the router on the way to it, and
    /// the routers.
    pub(super) fn witnesses(&self) -> Vec<Ipv4Addr> {
        let client = self.client.borrow();
        let Some(lease) = client.lease() else {
            return Vec::new();
        };
        let mut witnesses = vec![lease.next_hop(lease.server_id)];
        witnesses.extend(&lease.options.routers);
        witnesses.retain(|&witness| witness != lease.address);
        witnesses.dedup();
        witnesses.truncate(MAX_WITNESSES);
        witnesses
    }

    /// Whether the lease is released when its container is detached.
    pub(super) fn release_policy(&self) -> ReleasePolicy {
        self.params.release
    }

    /// What happens when the address that ADD returned is lost.
    pub(super) fn on_change(&self) -> OnChange {
        self.params.on_change
    }

    /// The only address that the container may have, if `onChange` says so.
    pub(super) fn kept_address(&self) -> Option<Ipv4Addr> {
        self.client.borrow().only_address()
    }

    /// What the server should have sent and did not, as sentences.
    pub(super) fn assumptions(&self) -> Vec<String> {
        let client = self.client.borrow();
        let assumptions = client.lease().map(Lease::assumptions).unwrap_or_default();
        assumptions.iter().map(ToString::to_string).collect()
    }

    /// Logs what the server should have sent and did not.
    pub(super) fn warn_of_assumptions(&self) {
        let attachment = &self.attachment;
        for assumption in self.assumptions() {
            tracing::warn!(%attachment, "{assumption}");
        }
    }

    /// Announces the address once more after two seconds, unless it is gone by then. Until it was
    /// announced twice, neighbours may have missed it (RFC 5227 §2.3).
    pub(super) fn announce_again(self: &Rc<Self>) {
        let Some(address) = self.address().filter(|_| self.params.announce) else {
            return;
        };
        let lease = Rc::downgrade(self);
        spawn_local(async move {
            sleep(ANNOUNCE_INTERVAL).await;
            let lease = lease
                .upgrade()
                .filter(|lease| lease.address() == Some(address));
            if let Some(lease) = lease
                && let Ok(netns) = lease.open_netns()
                && let Err(error) = announce(&netns, lease.interface.ifindex, address)
            {
                tracing::debug!(%address, %error, "cannot announce the address again");
            }
        });
    }

    /// Whether the host needs a route to the container (`hostAccess`).
    pub(super) fn has_host_access(&self) -> bool {
        !self.params.host_access.is_off()
    }

    /// Where that route must lead; `None` while there is no address.
    pub(super) fn host_route_target(&self) -> Option<Target> {
        let net = self.client.borrow().lease().map(Lease::net)?;
        Some(Target {
            interface: self.interface.clone(),
            pinned_netns: self.pinned_netns(),
            net,
            source_routing: self.params.source_routing,
            key: self.params.host_access.clone(),
        })
    }

    /// Whether the client is bound: nothing needs to be sent now.
    pub(super) fn is_bound(&self) -> bool {
        self.client.borrow().state() == StateName::Bound
    }

    /// When the lease must be maintained next.
    pub(super) fn due(&self) -> Option<dhcp4::Instant> {
        self.client.borrow().poll_timeout()
    }

    /// How far the client got: what it sent, received and ignored.
    pub(super) fn report(&self) -> String {
        format!("{}{}", self.client.borrow().report(), self.wire)
    }

    /// The member of the group that `-group` admits who requested it; `None` if root did.
    pub(super) fn member(&self) -> Option<u32> {
        self.params.member
    }

    /// The sentence about the interface at the end of an error.
    pub(super) fn interface_health(&self, netns: &Netns) -> String {
        let has_answer = self.client.borrow().report().has_answer();
        interface::health(netns, &self.interface, has_answer)
    }

    /// Opens the container's netns.
    ///
    /// # Errors
    /// If the container or the interface is no longer the lease's, or cannot be looked up.
    pub(super) fn open_netns(&self) -> Result<Netns, Unreachable> {
        self.lookup().map(|(netns, _)| netns)
    }

    /// Opens the container's netns, and looks up the interface in it.
    ///
    /// # Errors
    /// As [`ManagedLease::open_netns`].
    pub(super) fn lookup(&self) -> Result<(Netns, Link), Unreachable> {
        let pinned = self.pinned_netns.as_ref();
        let (netns, link) = self.interface.lookup(&self.attachment, pinned)?;
        self.parent.set(parent_in_other_netns(&link));
        Ok((netns, link))
    }

    /// Whether the interface has another MAC than the client knows.
    ///
    /// # Errors
    /// As [`ManagedLease::open_netns`].
    pub(super) fn has_other_mac(&self) -> Result<bool, Unreachable> {
        let (_, link) = self.lookup()?;
        Ok(link.mac != Some(self.mac.get()))
    }

    /// Lets the client continue with the MAC that the interface has now.
    fn adopt_mac(&self, link: &Link) {
        let Some(mac) = link.mac.filter(|mac| *mac != self.mac.get()) else {
            return;
        };
        let (attachment, before) = (&self.attachment, self.mac.replace(mac));
        tracing::info!(%attachment, %before, %mac, "the interface has another MAC");
        let client_id = self.params.client_config(mac).client_id;
        let client = &mut self.client.borrow_mut();
        client.adopt_mac(now(), mac.octets(), client_id);
    }

    /// The index of the interface's parent, if that is known.
    pub(super) fn parent(&self) -> Option<u32> {
        self.parent.get()
    }

    /// Whether the interface's parent is one of these links of the daemon's netns.
    pub(super) fn has_parent_in(&self, links: &[u32]) -> bool {
        self.parent
            .get()
            .is_some_and(|parent| links.contains(&parent))
    }

    /// Makes the next maintenance, or the one under way, confirm the lease with the server.
    pub(super) fn notify_carrier_restored(&self) {
        self.carrier_restored.notify_one();
    }

    /// Asks servers until there is an address. Calls `before_use` with each address that a server
    /// grants, before it is probed or used. An address that has an `other_holder` is declined.
    ///
    /// # Errors
    /// `IO_FAILURE` (5) if the interface disappears, `INVALID_NETWORK_CONFIG` (7) if the messages
    /// do not fit into its MTU, `TRY_AGAIN_LATER` (11) if descriptors are short. Silence is no
    /// error: the caller decides how long to wait, and [`ManagedLease::report`] says how far it
    /// got.
    pub(super) async fn acquire(
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
    pub(super) async fn maintain(
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
    async fn turn_over(&self, began: Instant) {
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

    /// Sets the interface up, if it was set down with the loss of its address: nothing can be sent
    /// from it otherwise.
    fn set_up_again(&self, netns: &Netns) {
        if !self.is_down.get() {
            return;
        }
        let netlink = Netlink::open_in(netns);
        let outcome = netlink.and_then(|netlink| netlink.set_up(self.interface.ifindex));
        if let Err(error) = outcome {
            let attachment = &self.attachment;
            tracing::error!(%attachment, %error, "cannot set the interface up again");
        }
    }

    /// Sets the interface down while its address is lost, if `onChange` says so.
    fn set_down_if_lost(&self, netns: &Netns) {
        if self.on_change() != OnChange::Down {
            return;
        }
        let is_lost = self.address().is_none();
        let was_down = self.is_down.replace(is_lost);
        if !is_lost {
            return;
        }
        let attachment = &self.attachment;
        let netlink = Netlink::open_in(netns);
        let outcome = netlink.and_then(|netlink| netlink.set_down(self.interface.ifindex));
        match outcome {
            Ok(()) if was_down => {}
            Ok(()) => {
                tracing::warn!(%attachment, "interface set down: its address is lost, and onChange is \"down\"");
            }
            Err(error) => tracing::error!(%attachment, %error, "cannot set the interface down"),
        }
    }

    /// Removes the address and routes of a lost lease from the interface, if they are still there.
    pub(super) fn remove_address(&self, netns: &Netns, lost: &Lease) {
        let leases = LeaseChange {
            old: Some(lost),
            new: None,
        };
        self.apply_to_interface(netns, "address removed", leases);
    }

    /// Restores what the interface has lost, and what could not be applied before. Returns whether
    /// it changed anything.
    fn repair(&self, netns: &Netns) -> bool {
        let lease = self.client.borrow().lease().cloned();
        let Some(lease) = lease else {
            // To ask for another address, the client needs a guard that knows the MAC.
            self.guard_or_log(netns, None);
            return false;
        };
        let leases = LeaseChange {
            old: Some(&lease),
            new: Some(&lease),
        };
        let (attachment, address) = (&self.attachment, lease.address);
        let (changed, outcome) = self.apply(netns, leases);
        // Not again before the next renewal: the kernel may refuse it each time.
        self.is_unsettled.set(false);
        if let Err(error) = outcome {
            tracing::error!(%attachment, %address, %changed, %error, "cannot restore the interface");
        } else if !changed.is_empty() {
            tracing::info!(%attachment, %address, %changed, "interface restored");
        }
        !changed.is_empty()
    }

    fn apply(&self, netns: &Netns, leases: LeaseChange<'_>) -> (Changes, linknet::Result<()>) {
        let (ifindex, applied) = (self.interface.ifindex, &mut self.applied.borrow_mut());
        let (changes, outcome) = interface::apply(
            netns,
            ifindex,
            &self.attachment,
            &self.params,
            applied,
            leases,
            now(),
        );
        self.is_unsettled.set(outcome.is_err());
        (changes, outcome)
    }

    /// Lets the container speak from this address and no other, if it is guarded.
    fn guard(&self, netns: &Netns, address: Option<Ipv4Addr>) -> linknet::Result<()> {
        let (attachment, guard) = (&self.attachment, &self.params.guard);
        interface::guard(netns, self.interface.ifindex, attachment, guard, address).map(drop)
    }

    /// Like [`ManagedLease::guard`], where the outcome changes nothing: what the old rules do not
    /// allow is not sent.
    fn guard_or_log(&self, netns: &Netns, address: Option<Ipv4Addr>) {
        if let Err(error) = self.guard(netns, address) {
            let attachment = &self.attachment;
            tracing::error!(%attachment, %error, "cannot update the guard");
        }
    }

    /// Whether the last change of the lease could not be applied whole, so that it should be tried
    /// again soon.
    pub(super) fn is_unsettled(&self) -> bool {
        self.is_unsettled.get()
    }

    /// Why an exchange failed: because the container is gone, or because descriptors or memory were
    /// short, which is no reason to give up the lease.
    fn classify(&self, error: io::Error) -> Unreachable {
        self.open_netns()
            .err()
            .unwrap_or_else(|| Unreachable::temporary(error))
    }

    /// Applies a change of the lease to the interface, and logs both in one event.
    fn apply_to_interface(&self, netns: &Netns, event: &str, leases: LeaseChange<'_>) {
        let (attachment, LeaseChange { old, new }) = (&self.attachment, leases);
        let (changed, outcome) = self.apply(netns, leases);
        let address = new.or(old).map(|lease| display(lease.address));
        let server = new.map(|lease| display(lease.server_id));
        match outcome {
            Ok(()) if new.is_none() => {
                tracing::warn!(%attachment, address, %changed, "{event}");
            }
            Ok(()) => tracing::info!(%attachment, address, server, %changed, "{event}"),
            Err(error) => {
                tracing::error!(%attachment, address, server, %changed, %error, "{event}, but cannot update the interface");
            }
        }
    }

    /// Releases the address, or a requested one that a server may have granted since.
    ///
    /// # Errors
    /// If the RELEASE cannot be sent.
    pub(super) fn release(&self, sockets: &mut Sockets<'_>) -> io::Result<()> {
        self.client.borrow_mut().release(now());
        let netns = sockets.netns();
        // An address that was only requested is not the container's yet.
        let allow = |source| self.guard_or_log(netns, Some(source));
        flush(&self.client, sockets, &self.wire, allow)
    }

    /// Removes the address from the interface. Returns whether it was there.
    pub(super) fn take_address_off(&self, netns: &Netns) -> linknet::Result<bool> {
        match self.address() {
            Some(address) => interface::take_off(netns, self.interface.ifindex, address),
            None => Ok(false),
        }
    }

    /// The link with the interface's index in its netns, whatever it is by now.
    ///
    /// # Errors
    /// If the netns or the link is gone, or cannot be inspected.
    pub(super) fn lookup_index(&self) -> Result<(Netns, Link), Unreachable> {
        let netns = match &self.pinned_netns {
            Some(netns) => netns.try_clone().map_err(Unreachable::temporary)?,
            None => self.interface.open_netns()?,
        };
        let netlink = Netlink::open_in(&netns);
        let link = netlink.and_then(|netlink| netlink.link_by_index(self.interface.ifindex));
        let link = link.map_err(Unreachable::temporary)?;
        Ok((netns, link.ok_or(Unreachable::InterfaceGone)?))
    }

    /// Releases the lease when no exchange is running. Tries several times: the interface is
    /// usually removed next, so the RELEASE must leave now or never.
    ///
    /// # Errors
    /// If the RELEASE cannot be sent.
    pub(super) async fn release_persistently(&self, netns: &Netns) -> io::Result<()> {
        let release = || self.release(&mut Sockets::new(netns, self.interface.ifindex));
        // A client that has released its lease does not do so again, so each attempt has its own.
        let client = self.client.borrow().clone();
        for _ in 1..RELEASE_ATTEMPTS {
            if release().is_ok() {
                return Ok(());
            }
            sleep(RELEASE_RETRY_INTERVAL).await;
            *self.client.borrow_mut() = client.clone();
        }
        release()
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

/// The interface's parent, if that is in another netns.
pub(super) fn parent_in_other_netns(link: &Link) -> Option<u32> {
    link.parent.filter(|_| link.parent_netnsid.is_some())
}
