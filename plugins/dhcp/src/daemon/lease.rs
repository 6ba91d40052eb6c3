//! A lease that the daemon keeps, and the slot that an attachment has for it.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use cni::{Attachment, CniResult, Error, code};
use dhcp4::{Client, Event, Lease, StateName};
use linknet::{Link, Mac, Netns};
use tokio::sync::{Mutex, Notify};

use super::alarm::Alarm;
use super::exchange::{flush, next_event, now};
use super::host_access::Destination;
use super::sockets::Sockets;
use super::{conflict, interface, result};
use crate::place::{Gone, Place};
use crate::protocol::Terms;
use crate::store::Record;

/// How often an exchange that goes on and on looks whether its container is still there. Without
/// it, one that no server answers would keep alive a netns that everybody else has let go of.
const LOOK: Duration = Duration::from_secs(5);

/// The place of an attachment in the daemon's table. One exchange with a server at a time: whoever
/// has the turn.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Whose.
    pub(crate) attachment: Attachment,
    /// Held by whoever talks to the server for this attachment.
    pub(crate) turn: Mutex<()>,
    /// Tells the one that has the turn to let go, because the attachment ends.
    pub(crate) ending: Notify,
    /// The lease, while there is one.
    pub(crate) held: RefCell<Option<Rc<Held>>>,
    /// When the lease wants attention next.
    pub(crate) alarm: Cell<Option<Alarm>>,
}

impl Slot {
    /// An empty slot.
    pub(crate) fn new(attachment: Attachment) -> Slot {
        Slot {
            attachment,
            turn: Mutex::new(()),
            ending: Notify::new(),
            held: RefCell::default(),
            alarm: Cell::default(),
        }
    }
}

/// A lease with everything that it takes to keep it. Idle, it has no socket, no thread and, as a
/// rule, no netns.
#[derive(Debug)]
pub(crate) struct Held {
    client: RefCell<Client>,
    /// Where the interface is.
    pub(crate) place: Place,
    terms: Terms,
    /// Where the server, or the relay before it, was last heard.
    server_mac: Cell<Option<Mac>>,
    /// The netns itself, where the daemon cannot find it by its path: in a container of its own,
    /// for example.
    kept: Option<Netns>,
    /// The link that the interface sits on in another netns than its own: the host's, as a rule.
    parent: Cell<Option<u32>>,
    /// Tells that the parent's carrier is back.
    restored: Notify,
}

impl Held {
    /// A client that has just been started for this place.
    pub(crate) fn new(client: Client, place: Place, terms: Terms, netns: &Netns) -> Held {
        let kept = place
            .reopen()
            .is_err()
            .then(|| netns.try_clone().ok())
            .flatten();
        let parent = Cell::new(place.look_at(netns).ok().and_then(|link| parent_of(&link)));
        Held {
            client: RefCell::new(client),
            place,
            terms,
            server_mac: Cell::default(),
            kept,
            parent,
            restored: Notify::new(),
        }
    }

    /// A client that goes on with a recorded lease.
    ///
    /// `kept` is the netns that was kept for it, if one was.
    pub(crate) fn resumed(client: Client, record: Record, kept: Option<Netns>) -> Held {
        let server_mac = Cell::new(record.server_mac);
        Held {
            client: RefCell::new(client),
            place: record.place,
            terms: record.terms,
            server_mac,
            kept,
            parent: Cell::default(),
            restored: Notify::new(),
        }
    }

    /// The netns that had to be kept for it.
    pub(crate) fn into_kept(held: Rc<Held>) -> Option<Netns> {
        held.kept.as_ref().and_then(|netns| netns.try_clone().ok())
    }

    /// Whether this is the lease of that very interface, asked for on the same terms, and good.
    pub(crate) fn serves(&self, place: &Place, terms: &Terms) -> bool {
        self.place == *place && self.terms == *terms && self.client.borrow().lease().is_some()
    }

    /// The lease as a CNI result; `None` while there is no address.
    pub(crate) fn result(&self) -> Option<CniResult> {
        self.client
            .borrow()
            .lease()
            .map(|lease| result::result(lease, &self.terms, now()))
    }

    /// The lease as it is written down; `None` while there is no address.
    pub(crate) fn record(&self, attachment: &Attachment) -> Option<Record> {
        let client = self.client.borrow();
        let lease = client.lease()?.clone();
        let record = Record::new(
            attachment.clone(),
            self.place.clone(),
            self.terms.clone(),
            lease,
            self.server_mac.get(),
        );
        Some(record.with_netns_kept(self.kept.is_some()))
    }

    /// The address in force.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.client.borrow().lease().map(|lease| lease.address)
    }

    /// Whether the host is to reach the container.
    pub(crate) fn host_access(&self) -> bool {
        self.terms.host_access
    }

    /// Where that leads; `None` while there is no address.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let net = self.client.borrow().lease().map(Lease::net)?;
        let kept = self.kept.as_ref().and_then(|netns| netns.try_clone().ok());
        Some(Destination {
            place: self.place.clone(),
            kept,
            net,
            source_routing: self.terms.source_routing,
        })
    }

    /// Whether nothing is to be done now.
    pub(crate) fn is_bound(&self) -> bool {
        self.client.borrow().state() == StateName::Bound
    }

    /// When the client wants to be woken next.
    pub(crate) fn due(&self) -> Option<dhcp4::Instant> {
        self.client.borrow().poll_timeout()
    }

    /// How far the client got: what it sent, received and ignored.
    pub(crate) fn report(&self) -> String {
        self.client.borrow().report().to_string()
    }

    /// The sentence about the interface at the end of an error.
    pub(crate) fn health(&self, netns: &Netns) -> String {
        interface::health(netns, &self.place)
    }

    /// The container's netns, if container and interface are still those of the lease.
    pub(crate) fn open(&self) -> Result<Netns, Gone> {
        let (netns, link) = match &self.kept {
            Some(netns) => {
                let link = self.place.look_at(netns)?;
                (
                    netns.try_clone().map_err(|error| Gone::unclear(&error))?,
                    link,
                )
            }
            None => self.place.reopen()?,
        };
        self.parent.set(parent_of(&link));
        Ok(netns)
    }

    /// Whether the interface sits on one of these links of the daemon's netns.
    pub(crate) fn sits_on(&self, links: &[u32]) -> bool {
        self.parent
            .get()
            .is_some_and(|parent| links.contains(&parent))
    }

    /// Has the lease asked for again when it is next maintained, at once if that is now.
    pub(crate) fn link_restored(&self) {
        self.restored.notify_one();
    }

    /// Asks servers until an address is ours.
    ///
    /// # Errors
    /// When the interface goes away meanwhile. Silence is no error: the caller decides how long to
    /// wait, and learns from [`Held::report`] how far it got.
    pub(crate) async fn acquire(&self, netns: &Netns, sockets: &mut Sockets) -> Result<(), Error> {
        let gone = |error: std::io::Error| {
            Error::new(
                code::IO_FAILURE,
                format!(
                    "asking for an address on {} failed: {error}",
                    self.place.ifname
                ),
            )
        };
        loop {
            match next_event(&self.client, sockets, &self.server_mac)
                .await
                .map_err(gone)?
            {
                Some(Event::Bound(lease)) => {
                    if let Err(error) =
                        interface::adopt_mtu(netns, &self.place, &self.terms, &lease)
                    {
                        tracing::error!(%error, "the MTU that the server tells could not be set");
                    }
                    return Ok(());
                }
                Some(Event::Granted(lease)) => self.confirm(netns, &lease).await.map_err(gone)?,
                Some(Event::Renewed { .. }) | None => return Ok(()),
                Some(Event::Lost { .. } | Event::Informed(_)) => {}
            }
        }
    }

    /// Takes an address that was granted, unless somebody else is found to have it.
    async fn confirm(&self, netns: &Netns, lease: &Lease) -> std::io::Result<()> {
        let Lease {
            address,
            server_id: server,
            ..
        } = lease;
        let detection = self.terms.conflict_detection;
        let contender = conflict::contender(netns, self.place.ifindex, *address, detection).await?;
        let mut client = self.client.borrow_mut();
        match contender {
            None => client.accept(now()),
            Some(mac) => {
                tracing::warn!(%address, %mac, %server, "somebody else has the address that was granted: declined");
                client.decline(now())
            }
        };
        Ok(())
    }

    /// Does what is due: renews, rebinds, or starts over, until the lease is good again. The
    /// container's interface follows, and `noted` is called at every change.
    ///
    /// # Errors
    /// When the container is gone, or cannot be looked into.
    pub(crate) async fn maintain(
        &self,
        attachment: &Attachment,
        noted: impl Fn(),
    ) -> Result<(), Gone> {
        let netns = self.open()?;
        self.client.borrow_mut().handle_timeout(now());
        let for_sockets = netns.try_clone().map_err(|error| Gone::unclear(&error))?;
        let mut sockets = Sockets::new(for_sockets, self.place.ifindex);
        loop {
            let event = tokio::select! {
                biased;
                () = self.restored.notified() => {
                    tracing::info!(%attachment, "the parent's carrier is back: asking whether the address is still good");
                    self.client.borrow_mut().link_restored(now());
                    continue;
                }
                event = next_event(&self.client, &mut sockets, &self.server_mac) => {
                    event.map_err(|error| self.why(&error))?
                }
                gone = self.disappears() => return Err(gone),
            };
            match event {
                Some(Event::Renewed { old, new }) => {
                    self.follow(attachment, &netns, "lease renewed", Some(&old), Some(&new));
                    noted();
                    return Ok(());
                }
                Some(Event::Bound(new)) => {
                    self.follow(attachment, &netns, "address leased anew", None, Some(&new));
                    noted();
                    return Ok(());
                }
                Some(Event::Lost { lease, why }) => {
                    // Noted first: a daemon killed in between leaves an address that the next one
                    // knows to remove.
                    noted();
                    self.follow(
                        attachment,
                        &netns,
                        &format!("address lost: {why}"),
                        Some(&lease),
                        None,
                    );
                }
                Some(Event::Granted(lease)) => {
                    self.confirm(&netns, &lease)
                        .await
                        .map_err(|error| self.why(&error))?;
                }
                Some(Event::Informed(_)) => {}
                None => return Ok(()),
            }
        }
    }

    /// Returns once the container is gone.
    async fn disappears(&self) -> Gone {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(gone) = self.open()
                && gone.is_certain()
            {
                return gone;
            }
        }
    }

    /// Removes from the interface what a lease that was lost may have left there.
    pub(crate) fn clear(&self, attachment: &Attachment, netns: &Netns, lost: &Lease) {
        self.follow(attachment, netns, "address removed", Some(lost), None);
    }

    /// Why an exchange failed: with the interface, or for want of descriptors or memory, which is
    /// no reason to let go of a lease.
    fn why(&self, error: &std::io::Error) -> Gone {
        self.open().err().unwrap_or_else(|| Gone::unclear(error))
    }

    /// Makes the interface follow its lease, and logs what happened as one event.
    fn follow(
        &self,
        attachment: &Attachment,
        netns: &Netns,
        what: &str,
        old: Option<&Lease>,
        new: Option<&Lease>,
    ) {
        let (changes, outcome) =
            interface::follow(netns, &self.place, &self.terms, old, new, now());
        let address = new.or(old).map(|lease| lease.address);
        let server = new.map(|lease| lease.server_id);
        match outcome {
            Ok(()) => tracing::info!(%attachment, ?address, ?server, changed = %changes, "{what}"),
            Err(error) => {
                tracing::error!(%attachment, ?address, ?server, changed = %changes, %error, "{what}, and the interface could not follow");
            }
        }
    }

    /// Gives the address back, or what was asked for and may have been granted meanwhile.
    pub(crate) fn release(&self, sockets: &mut Sockets) {
        self.client.borrow_mut().release(now());
        flush(&self.client, sockets, &self.server_mac);
    }

    /// The same where no exchange is under way. Without the container there is no way to send
    /// anything.
    ///
    /// # Errors
    /// When the container is gone.
    pub(crate) fn release_in_place(&self) -> Result<(), Gone> {
        let netns = self.open()?;
        self.release(&mut Sockets::new(netns, self.place.ifindex));
        Ok(())
    }
}

/// The link below, where it is in another netns.
fn parent_of(link: &Link) -> Option<u32> {
    link.parent.filter(|_| link.parent_netnsid.is_some())
}
