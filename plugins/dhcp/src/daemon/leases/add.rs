//! ADD: obtains a lease, or returns the existing one.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cni::{Attachment, CniResult, Error, code};
use dhcp4::Client;
use linknet::{Link, Mac, Netns};
use tokio::time::{Instant, timeout_at};
use tracing::field::display;

use super::attempt::Attempt;
use super::lease::{ManagedLease, parent_in_other_netns};
use super::slot::Slot;
use super::table::{SlotGuard, Table, seed};
use super::{detach, end};
use crate::daemon::error::internal;
use crate::daemon::exchange::{Permit, Sockets, now};
use crate::daemon::store::ClientIdentity;
use crate::protocol::{AddId, LeaseParams};
use crate::state::{InterfaceRef, LeaseStatus, Record};

/// How many leases one member of the group that `-group` admits may have. No user runs as many
/// containers, and without a limit one member could lease every address of the LAN.
const MAX_LEASES_OF_MEMBER: usize = 256;

/// The parameters of an ADD, and its deadline.
struct AddRequest {
    netns: Netns,
    /// The path of the netns, as the daemon sees it.
    path: PathBuf,
    params: LeaseParams,
    timeout: Duration,
    deadline: Instant,
    id: Option<AddId>,
}

/// Leases an address for the interface of `attachment` in `netns`. If the attachment has a lease
/// already, returns that one, so a runtime may repeat an ADD. `waited` is how much of its time is
/// over already.
///
/// If the future is dropped, an address that a server may have granted by then is released.
///
/// # Errors
/// `TRY_AGAIN_LATER` (11) if no server granted an address in time, or if the ADD was cancelled by a
/// DEL or because the daemon is stopping.
pub(crate) async fn add(
    table: &Table,
    attachment: &Attachment,
    netns: Netns,
    path: &Path,
    mut params: LeaseParams,
    waited: Duration,
    id: Option<AddId>,
) -> Result<CniResult, Error> {
    table.settings.share(&mut params);
    let timeout = table.add_timeout(&params);
    let request = AddRequest {
        netns,
        path: table.flags.on_host(path),
        params,
        timeout,
        deadline: Instant::now() + timeout.saturating_sub(waited),
        id,
    };
    let cancelled = || {
        let why = match table.is_stopping.get() {
            true => "the daemon is stopping, try again",
            false => "DEL was called for the attachment",
        };
        let what = format!("ADD of {attachment} was cancelled: {why}");
        Error::new(code::TRY_AGAIN_LATER, what)
    };
    loop {
        if table.is_stopping.get() {
            return Err(cancelled());
        }
        let slot = table.get_or_create(attachment);
        let _guard = SlotGuard { table, slot: &slot };
        slot.requested_by.set(request.params.member);
        let added = tokio::select! {
            added = add_in_slot(table, &slot, &request) => added,
            () = slot.cancelled.notified() => Err(cancelled()),
        };
        if let Some(added) = added? {
            return Ok(added);
        }
    }
}

/// Releases the lease that an ADD obtained, because its caller was gone before it got the result. A
/// lease that another ADD obtained, or was told of, stays.
pub(crate) async fn undo(table: &Rc<Table>, attachment: &Attachment, add: AddId) {
    let lease = table.get(attachment).and_then(|slot| slot.lease());
    if lease.is_some_and(|lease| lease.belongs_to_only(add)) {
        detach::del(table, attachment).await;
    }
}

/// `None` if the slot was removed from the table while we waited for its lock.
async fn add_in_slot(
    table: &Table,
    slot: &Rc<Slot>,
    request: &AddRequest,
) -> Result<Option<CniResult>, Error> {
    let attachment = &slot.attachment;
    let exchange = timeout_at(request.deadline, slot.exchange_lock.lock()).await;
    let _exchange = exchange
        .map_err(|_| request.late(attachment, "waiting for another exchange of the attachment"))?;
    if !table.has(slot) {
        return Ok(None);
    }
    let (interface, link) = InterfaceRef::find(&request.netns, &request.path, attachment.ifname())?;
    // If a change of the host's route is still pending, it is for an earlier container of this
    // name, and would undo the route that macvlan is about to create for this one.
    table.host_routes.cancel_pending(attachment);
    if let Some(lease) = existing(slot, &interface, &request.params) {
        let configured = lease.configure(&request.netns, false);
        configured.map_err(|error| cannot_configure(&interface, &error))?;
        return Ok(lease.result());
    }
    ensure_not_replaced(slot, request)?;
    ensure_not_too_many(table, slot, request.params.member)?;
    end::release(table, slot).await;
    let permit = permit(table, attachment, request, &link).await?;
    let sockets = Sockets::new(&request.netns, interface.ifindex).with_permit(permit);
    let (client, past) = new_client(table, attachment, interface.mac, request)?;
    let params = request.params.clone();
    let lease = ManagedLease::new(attachment, client, interface, &link, params, &request.netns);
    ensure_own_identity(table, &lease)?;
    let lease = Rc::new(lease);
    *slot.sought.borrow_mut() = Rc::downgrade(&lease);
    table.holders.update(slot);
    let attempt = Attempt::new(table, slot, Rc::clone(&lease), sockets);
    let obtained = attempt.obtain(&request.netns, &link, request.deadline, request.timeout);
    // While the servers answer: it takes some requests to the kernel.
    let note_lan = async { lease.note_lan(&request.netns, &link) };
    let (obtained, ()) = tokio::join!(obtained, note_lan);
    let lease = obtained?;
    lease.set_only_add(request.id);
    let result = keep(table, slot, Rc::clone(&lease), past)?;
    if let Err(error) = lease.configure(&request.netns, true) {
        end::release(table, slot).await;
        return Err(cannot_configure(&lease.interface, &error));
    }
    Ok(Some(result))
}

/// The error of an ADD whose interface the daemon is to configure, and cannot.
fn cannot_configure(interface: &InterfaceRef, error: &linknet::Error) -> Error {
    let what = format!("cannot configure {}: {error}", interface.ifname);
    Error::new(code::IO_FAILURE, what)
}

/// The slot's lease, if it is for this interface and was obtained with the same parameters.
fn existing(
    slot: &Slot,
    interface: &InterfaceRef,
    params: &LeaseParams,
) -> Option<Rc<ManagedLease>> {
    let lease = slot
        .lease()
        .filter(|lease| lease.serves(interface, params))?;
    lease.set_only_add(None);
    Some(lease)
}

/// Refuses an ADD whose container was replaced by another one, which has the lease: the process is
/// late, and its runtime has given it up.
///
/// # Errors
/// `UNKNOWN_CONTAINER` (3).
fn ensure_not_replaced(slot: &Slot, request: &AddRequest) -> Result<(), Error> {
    let is_successor = |lease: &Rc<ManagedLease>| {
        let interface = &lease.interface;
        interface.path == request.path
            && !interface.is_in(&request.netns)
            && interface.lookup(&slot.attachment, None).is_ok()
    };
    if slot.lease().is_some_and(|lease| is_successor(&lease)) {
        let path = request.path.display();
        let what = format!("CNI_NETNS: {path} is another container's namespace by now");
        return Err(Error::new(code::UNKNOWN_CONTAINER, what));
    }
    Ok(())
}

/// Refuses a further lease of a member of the group that `-group` admits, if it has too many.
///
/// # Errors
/// `TRY_AGAIN_LATER` (11).
fn ensure_not_too_many(table: &Table, slot: &Rc<Slot>, member: Option<u32>) -> Result<(), Error> {
    let Some(uid) = member else {
        return Ok(());
    };
    let is_another = |other: &&Rc<Slot>| other.member() == member && !Rc::ptr_eq(other, slot);
    if table.slots().iter().filter(is_another).count() < MAX_LEASES_OF_MEMBER {
        return Ok(());
    }
    let what = format!(
        "uid {uid} has {MAX_LEASES_OF_MEMBER} leases, and a member of the group that -group admits \
         may have no more"
    );
    Err(Error::new(code::TRY_AGAIN_LATER, what).details("detach one of its containers"))
}

/// Refuses a lease of a member of the group that `-group` admits, under the identity of a lease that
/// another user requested: the server would take both for one client.
///
/// # Errors
/// `INVALID_NETWORK_CONFIG` (7).
fn ensure_own_identity(table: &Table, lease: &ManagedLease) -> Result<(), Error> {
    let is_anothers =
        |other: &Rc<Slot>| other.member() != lease.member() && other.may_hold(lease, None);
    match lease.member() {
        Some(_) if table.slots().iter().any(is_anothers) => Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            "clientId is that of a lease that another user requested",
        )),
        _ => Ok(()),
    }
}

/// Waits for the right to exchange messages with servers.
async fn permit(
    table: &Table,
    attachment: &Attachment,
    request: &AddRequest,
    link: &Link,
) -> Result<Permit, Error> {
    let permit = table.add_permits.acquire(parent_in_other_netns(link));
    timeout_at(request.deadline, permit)
        .await
        .map_err(|_| {
            request.late(
                attachment,
                "in the queue behind other ADDs on the same parent",
            )
        })?
        .map_err(internal)
}

/// Puts a lease that was just obtained into its slot, and on disk. `past` is the record of the
/// lease that the client had before.
fn keep(
    table: &Table,
    slot: &Rc<Slot>,
    lease: Rc<ManagedLease>,
    past: Option<Record>,
) -> Result<CniResult, Error> {
    let result = lease.result();
    let result = result.ok_or_else(|| internal("a client that is bound has no lease"))?;
    table.netns_watcher.watch(&lease.interface.path);
    table.put(slot, Rc::clone(&lease));
    // On disk before the caller gets the result: from here on, a crash cannot lose the lease.
    table.persist(slot);
    if let Some(past) = past {
        match past.attachment == slot.attachment {
            true => table.store.forget(&past), // its file has the new record
            false => table.store.forget_superseded(&past),
        }
    }
    table.set_timer(slot);
    let address = lease.address().map(display);
    tracing::info!(attachment = %slot.attachment, address, "address leased");
    lease.warn_if_ungranted();
    lease.warn_of_assumptions();
    lease.announce_again();
    Ok(result)
}

/// A client for the interface with this MAC. If there is a record of the client's last lease, it
/// asks for the address in that record, which is returned as well.
fn new_client(
    table: &Table,
    attachment: &Attachment,
    mac: Mac,
    request: &AddRequest,
) -> Result<(Client, Option<Record>), Error> {
    let params = &request.params;
    let mut config = table.client_config(params, mac);
    let left = request.deadline.saturating_duration_since(Instant::now());
    config.deadline = Some(now() + left);
    let past = table
        .store
        .recall(&ClientIdentity::new(attachment.network(), params, mac))
        .filter(|past| past.params.member == params.member);
    let client = match &past {
        // If the server was not told that the address is free again, one round trip may be enough
        // (INIT-REBOOT).
        Some(past)
            if past.status != LeaseStatus::Released && config.requested_address.is_none() =>
        {
            Client::reboot(config, seed()?, past.lease.clone(), now())
        }
        Some(past) => {
            config.requested_address.get_or_insert(past.lease.address);
            Client::new(config, seed()?, now())
        }
        None => Client::new(config, seed()?, now()),
    };
    Ok((client, past))
}

impl AddRequest {
    /// The error for an ADD whose time ran out before it could send anything.
    fn late(&self, attachment: &Attachment, waiting: &str) -> Error {
        let what = format!("no address for {attachment} within {:?}", self.timeout);
        Error::new(code::TRY_AGAIN_LATER, what)
            .details(format!("all of that time was spent {waiting}"))
    }
}

#[cfg(test)]
mod tests {
    use dhcp4::StateName;

    use super::*;
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::daemon::leases::table::tests::table;
    use crate::protocol::ClientId;
    use crate::state::tests::record;

    #[tokio::test]
    async fn a_member_may_have_some_leases_and_root_any_number() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let slot = |number: usize, member| {
            let attachment = Attachment::new(format!("c{number}"), "lan", "eth0").unwrap();
            let slot = table.get_or_create(&attachment);
            slot.requested_by.set(member);
            slot
        };
        for number in 1..MAX_LEASES_OF_MEMBER {
            slot(number, Some(1000));
        }
        slot(1001, Some(1001));
        slot(1002, None);
        let last = slot(0, Some(1000));
        assert_eq!(ensure_not_too_many(&table, &last, Some(1000)), Ok(()));
        for (member, is_refused) in [(Some(1000), true), (Some(1001), false), (None, false)] {
            let further = slot(1003, member);
            let refused = ensure_not_too_many(&table, &further, member).err();
            let code = refused.map(|error| error.code);
            assert_eq!(
                code,
                is_refused.then_some(code::TRY_AGAIN_LATER),
                "{member:?}"
            );
        }
    }

    fn request(params: LeaseParams) -> AddRequest {
        let timeout = Duration::from_secs(60);
        AddRequest {
            netns: Netns::current().expect("the process's own netns"),
            path: PathBuf::from("/proc/self/ns/net"),
            params,
            timeout,
            deadline: Instant::now() + timeout,
            id: None,
        }
    }

    #[tokio::test]
    async fn a_client_that_comes_back_asks_for_its_address() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let record = record();
        let mac = record.interface.mac;
        let client = |params: &LeaseParams| {
            let request = request(params.clone());
            let (client, past) =
                new_client(&table, &record.attachment, mac, &request).expect("random octets");
            (client.state(), past.is_some())
        };
        let (mut elsewhere, mut anothers) = (record.params.clone(), record.params.clone());
        elsewhere.requested_address = Some([10, 99, 0, 7].into());
        anothers.member = Some(1000);
        assert_eq!(client(&record.params), (StateName::Selecting, false));
        for (status, state) in [
            (LeaseStatus::Abandoned, StateName::Rebooting),
            (LeaseStatus::Released, StateName::Selecting),
        ] {
            table.store.remember(record.clone().with_status(status));
            assert_eq!(client(&record.params), (state, true), "{status:?}");
            assert_eq!(
                client(&elsewhere),
                (StateName::Selecting, true),
                "{status:?}"
            );
            assert_eq!(
                client(&anothers),
                (StateName::Selecting, false),
                "{status:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_member_gets_no_lease_under_the_identity_of_anothers() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let of = |member: Option<u32>, id: &[u8]| {
            let mut record = record();
            record.params.member = member;
            record.params.client_id = ClientId::Sent(id.into());
            lease_of(record)
        };
        let slot = table.get_or_create(&record().attachment);
        *slot.lease.borrow_mut() = Some(Rc::new(of(Some(1000), b"one")));
        for (member, id, is_refused) in [
            (Some(1001), b"one", true),
            (Some(1001), b"two", false),
            (Some(1000), b"one", false),
            (None, b"one", false),
        ] {
            let refused = ensure_own_identity(&table, &of(member, id)).is_err();
            assert_eq!(refused, is_refused, "{member:?} {id:?}");
        }
    }

    #[tokio::test]
    async fn a_repeated_add_is_told_of_the_lease_there_is() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let record = record();
        let slot = table.get_or_create(&record.attachment);
        let told = |params: &LeaseParams| existing(&slot, &record.interface, params);
        assert!(told(&record.params).is_none());
        *slot.lease.borrow_mut() = Some(Rc::new(lease_of(record.clone())));
        let lease = told(&record.params).expect("its lease");
        assert_eq!(lease.address(), Some(record.lease.address));
        let mut others = record.params.clone();
        others.broadcast = true;
        assert!(told(&others).is_none());
    }
}
