//! A lease that the daemon maintains.

mod apply;
mod exchange;
mod release;
mod view;

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;

use cni::{Attachment, CniResult};
use dhcp4::{Client, Lease, StateName};
use linknet::{Link, Mac, Netns};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

pub(super) use view::whole_seconds;

use super::lan::Lan;
use crate::daemon::exchange::{ANNOUNCE_INTERVAL, Wire, announce, now};
use crate::daemon::host_routes::Target;
use crate::daemon::interface::{self, Applied};
use crate::daemon::store::ClientIdentity;
use crate::protocol::{AddId, LeaseParams, OnChange, ReleasePolicy};
use crate::state::{InterfaceRef, LeaseStatus, Record, Unreachable};

/// How many stations are asked by ARP whether anybody hears the container.
const MAX_WITNESSES: usize = 4;

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
            lan: Cell::default(),
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

    /// The lease as the server granted it; `None` while there is no address.
    pub(super) fn granted(&self) -> Option<Lease> {
        self.client.borrow().lease().cloned()
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

    /// Keeps the LAN in mind that the link in this netns is on, for when there is no such link.
    pub(super) fn note_lan(&self, netns: &Netns, link: &Link) {
        self.lan.set(Lan::of(netns, link));
    }

    /// The LAN; `None` if it is unknown.
    pub(super) fn lan(&self) -> Option<Lan> {
        if let Ok((netns, link)) = self.lookup() {
            self.note_lan(&netns, &link);
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

    /// Warns if the server has leased another address than the caller asked for. The plugin warns
    /// too, but most runtimes do not show what a plugin that succeeds writes to stderr.
    pub(super) fn warn_if_ungranted(&self) {
        if let (Some(requested), Some(leased)) = (self.params.requested_address, self.address())
            && requested != leased
        {
            let attachment = &self.attachment;
            tracing::warn!(
                %attachment,
                "{requested} was requested, but the DHCP server has leased {leased}"
            );
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

    /// The client's state.
    pub(super) fn state(&self) -> StateName {
        self.client.borrow().state()
    }

    /// Whether the client is bound: nothing needs to be sent now.
    pub(super) fn is_bound(&self) -> bool {
        self.state() == StateName::Bound
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
}

/// The interface's parent, if that is in another netns.
pub(super) fn parent_in_other_netns(link: &Link) -> Option<u32> {
    link.parent.filter(|_| link.parent_netnsid.is_some())
}

#[cfg(test)]
pub(in crate::daemon::leases) mod tests {
    use std::time::Duration;

    use attachment::host_access::HostAccessKey;

    use super::*;
    use crate::daemon::leases::lan::tests::lan_of_parent;
    use crate::daemon::process::log::testing::logged;
    use crate::protocol::ClientId;
    use crate::state::Mtu;
    use crate::state::tests::record;

    /// The lease of a record, continued.
    pub(in crate::daemon::leases) fn lease_of(mut record: Record) -> ManagedLease {
        // However long the machine has been up, the lease is in force.
        let (now, lease) = (now(), &mut record.lease);
        if lease.requested_at > now || lease.expires_at().is_some_and(|end| end <= now) {
            lease.requested_at = now;
        }
        let config = record.params.client_config(record.interface.mac);
        let client = Client::resume(config, 1, record.lease.clone(), now);
        ManagedLease::resumed(client, record, None)
    }

    /// A lease that was lost, and that its client has yet to obtain again.
    pub(in crate::daemon::leases) fn lost_lease_of(record: Record) -> ManagedLease {
        let config = record.params.client_config(record.interface.mac);
        let client = Client::new(config, 1, now());
        ManagedLease::resumed(client, record.with_status(LeaseStatus::Lost), None)
    }

    #[test]
    fn an_interface_is_down_if_its_address_was_lost_and_on_change_says_so() {
        for (on_change, is_down) in [
            (OnChange::Follow, false),
            (OnChange::Keep, false),
            (OnChange::Down, true),
        ] {
            let mut record = record();
            record.params.on_change = on_change;
            assert!(!lease_of(record.clone()).is_down.get());
            assert_eq!(lost_lease_of(record).is_down.get(), is_down);
        }
    }

    #[test]
    fn a_repeated_add_gets_the_lease_of_its_interface_and_parameters() {
        let record = record();
        let (interface, params) = (&record.interface, &record.params);
        let lease = lease_of(record.clone());
        assert!(lease.serves(&interface.clone().with_mac(Mac([4; 6])), params));
        let mut other = interface.clone();
        other.ifindex += 1;
        assert!(!lease.serves(&other, params));
        let mut others = params.clone();
        others.broadcast = true;
        assert!(!lease.serves(interface, &others));
        assert!(!lost_lease_of(record.clone()).serves(interface, params));
    }

    #[test]
    fn a_client_without_an_identifier_is_another_one_with_another_mac() {
        let link = |mac| Link {
            mac,
            ..Link::default()
        };
        let mut record = record();
        let own = Some(record.interface.mac);
        let other = Some(Mac([4; 6]));
        let by_mac = lease_of(record.clone());
        assert!(by_mac.is_other_client_with(&link(other)));
        assert!(!by_mac.is_other_client_with(&link(own)));
        assert!(!by_mac.is_other_client_with(&link(None)));
        record.params.client_id = ClientId::Sent(vec![1, 2, 3].into());
        assert!(!lease_of(record).is_other_client_with(&link(other)));
    }

    #[test]
    fn a_lease_has_a_host_route_if_it_has_an_address_and_is_to_have_one() {
        let mut record = record();
        assert!(!lease_of(record.clone()).has_host_access());
        record.params.host_access = HostAccessKey::OnLink;
        let lease = lease_of(record.clone());
        assert!(lease.has_host_access());
        let target = lease.host_route_target().expect("an address");
        assert_eq!(target.net, record.lease.net());
        assert!(lost_lease_of(record).host_route_target().is_none());
    }

    #[test]
    fn a_lease_is_known_by_its_address_parent_and_add() {
        let record = record();
        let lease = lease_of(record.clone());
        assert_eq!(lease.address(), Some(record.lease.address));
        assert_eq!(lease.client(), ClientIdentity::of(&record));
        assert!(lease.is_bound() && !lost_lease_of(record.clone()).is_bound());
        assert_eq!(lease.parent(), None);
        assert!(!lease.has_parent_in(&[2, 3]));
        lease.parent.set(Some(3));
        assert!(lease.has_parent_in(&[2, 3]) && !lease.has_parent_in(&[2]));
        assert_eq!(lease.parent(), Some(3));
        let add: AddId = serde_json::from_str("7").expect("a number");
        assert!(!lease.belongs_to_only(add));
        lease.set_only_add(Some(add));
        assert!(lease.belongs_to_only(add));
        lease.set_only_add(None);
        assert!(!lease.belongs_to_only(add));
    }

    #[test]
    fn a_lease_ends_and_changes_as_its_configuration_says() {
        let mut record = record();
        record.params.release = ReleasePolicy::Never;
        record.params.on_change = OnChange::Keep;
        let lease = lease_of(record);
        assert_eq!(lease.release_policy(), ReleasePolicy::Never);
        assert_eq!(lease.on_change(), OnChange::Keep);
        assert_eq!(lease.kept_address(), None);
        let address = Ipv4Addr::new(10, 99, 0, 7);
        lease.client.borrow_mut().require_address(address);
        assert_eq!(lease.kept_address(), Some(address));
    }

    #[test]
    fn each_thing_that_the_server_did_not_send_is_a_line_of_the_log() {
        let lease = lease_of(record());
        let missing = ["no subnet mask", "no lease time"];
        let log = logged(|| lease.warn_of_assumptions());
        assert_eq!(log.lines().count(), missing.len(), "{log}");
        for (line, what) in lease.assumptions().iter().zip(missing) {
            assert!(line.contains(what) && log.contains(line), "{log}");
        }
        assert!(lost_lease_of(record()).assumptions().is_empty());
    }

    #[test]
    fn two_leases_may_share_a_lan_unless_theirs_are_known_to_differ() {
        let [one, other] = [lease_of(record()), lease_of(record())];
        assert!(one.lan().is_none() && one.may_share_lan(&other));
        one.lan.set(Some(lan_of_parent(2)));
        assert_eq!(one.lan(), Some(lan_of_parent(2)), "as it was last known");
        assert!(one.may_share_lan(&other) && other.may_share_lan(&one));
        other.lan.set(Some(lan_of_parent(3)));
        assert!(!one.may_share_lan(&other));
    }

    #[test]
    fn a_lease_that_is_to_be_confirmed_keeps_its_address_meanwhile() {
        let lease = lease_of(record());
        lease.reconfirm();
        assert!(!lease.is_bound() && lease.address().is_some());
    }

    #[test]
    fn only_another_address_than_the_requested_one_is_worth_a_warning() {
        let mut record = record();
        let leased = record.lease.address;
        for (requested, lines) in [
            (None, 0),
            (Some(leased), 0),
            (Some(Ipv4Addr::new(10, 99, 0, 7)), 1),
        ] {
            record.params.requested_address = requested;
            let lease = lease_of(record.clone());
            let log = logged(|| lease.warn_if_ungranted());
            assert_eq!(log.lines().count(), lines, "{requested:?}: {log}");
        }
    }

    /// The time that a turn takes in which the last message is sent after `sent_after`.
    async fn turn(lease: &Rc<ManagedLease>, sent_after: Option<Duration>) -> Duration {
        let began = tokio::time::Instant::now();
        let sending = async {
            if let Some(after) = sent_after {
                sleep(after).await;
                lease.wire.note_sent();
            }
        };
        tokio::join!(lease.turn_over(began), sending);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_lasts_four_seconds_and_until_an_answer_to_the_last_message_is_overdue() {
        let lease = Rc::new(lease_of(record()));
        let millis = |millis| Some(Duration::from_millis(millis));
        for (sent_after, lasts) in [(None, 4000), (millis(1000), 4000), (millis(3500), 5500)] {
            let lasted = turn(&lease, sent_after).await.as_millis();
            assert!(
                (lasts..lasts + 10).contains(&lasted),
                "{sent_after:?}: {lasted}"
            );
        }
        lease.is_down.set(true);
        let lasted = turn(&lease, millis(0)).await.as_millis();
        assert!((2000..2010).contains(&lasted), "{lasted}");
    }

    #[test]
    fn the_server_and_the_routers_are_witnesses_each_once() {
        let mut record = record();
        let server = record.lease.server_id;
        record.lease.options.routers = vec![server, record.lease.address];
        record
            .lease
            .options
            .routers
            .extend((10..20).map(|host| Ipv4Addr::new(10, 99, 0, host)));
        let witnesses = lease_of(record.clone()).witnesses();
        let routers = [10, 11, 12].map(|host| Ipv4Addr::new(10, 99, 0, host));
        assert_eq!(witnesses, [&[server][..], &routers].concat());
        assert!(lost_lease_of(record).witnesses().is_empty());
    }

    #[test]
    fn a_netns_that_was_kept_open_stays_with_the_lease_and_is_noted() {
        let record = record();
        let own = Netns::current().expect("the process's own netns");
        let lease = lease_of(record.clone());
        assert!(lease.pinned_netns().is_none());
        let pinned = ManagedLease {
            pinned_netns: Some(own),
            ..lease
        };
        assert!(pinned.pinned_netns().is_some());
        let noted = serde_json::to_value(pinned.record()).expect("a document");
        assert_eq!(noted["netnsKept"], true);
        assert_eq!(noted["lease"]["address"], "10.99.0.100");
    }

    #[test]
    fn a_lease_is_due_when_its_client_is() {
        let mut record = record();
        assert_eq!(lease_of(record.clone()).due(), None, "it has no end");
        record.lease.requested_at = now();
        record.lease.lifetime = Some(Duration::from_secs(100));
        let end = record.lease.expires_at();
        assert_eq!(lease_of(record).due(), end, "the server names no T1");
    }

    #[test]
    fn a_lease_that_could_not_be_applied_whole_is_unsettled() {
        let lease = lease_of(record());
        assert!(!lease.is_unsettled());
        lease.is_unsettled.set(true);
        assert!(lease.is_unsettled());
    }

    #[test]
    fn what_was_known_of_the_server_and_the_interface_is_known_again() {
        let mac = Mac([6; 6]);
        let mtu = Mtu {
            own: 1500,
            set: Some(1400),
        };
        let mut record = record().with_mtu(Some(mtu));
        record.server_mac = Some(mac);
        let again = lease_of(record).record().expect("an address");
        assert_eq!((again.server_mac, again.mtu), (Some(mac), Some(mtu)));
    }
}
