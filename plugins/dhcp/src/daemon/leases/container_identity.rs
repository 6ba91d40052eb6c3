//! The client identifier (option 61) of a container that netavark sets up.
//!
//! netavark's own proxy identifies every interface of a container by the container's ID. So does this
//! daemon, so that a container keeps its address when the daemon takes the proxy's place. But a
//! server that serves two networks of a container would take both for one client, and drop the lease
//! of the first. The interface that comes second therefore has an identifier of its own.

use cni::Attachment;
use linknet::Mac;

use super::slot::Slot;
use super::table::Table;
use crate::daemon::store::ClientIdentity;
use crate::protocol::{ClientId, LeaseParams};

/// Chooses between the identifier `of_container` and `params`' own for the interface. An interface
/// keeps to its choice for as long as the daemon remembers its last lease, in whatever order netavark
/// sets a container's networks up.
pub(crate) fn choose_identity(
    table: &Table,
    attachment: &Attachment,
    mac: Mac,
    params: LeaseParams,
    of_container: ClientId,
) -> LeaseParams {
    let with = |client_id| LeaseParams {
        client_id,
        ..params.clone()
    };
    let shared = with(of_container);
    let users = |params: &LeaseParams| {
        table.interfaces_of_client(&ClientIdentity::new(attachment.network(), params, mac))
    };
    let is_own = |ifname: &String| ifname == attachment.ifname();
    match users(&params).is_empty() && users(&shared).iter().all(is_own) {
        true => shared,
        false => params,
    }
}

impl Table {
    /// The names of the interfaces that have a lease under this identity, seek one, or had the last.
    fn interfaces_of_client(&self, client: &ClientIdentity) -> Vec<String> {
        let slots = self.slots().into_iter();
        let present = slots.filter(|slot| slot.is_of_client(client));
        let present = present.map(|slot| slot.attachment.clone());
        let past = self.store.recall(client).map(|record| record.attachment);
        let attachments = present.chain(past);
        attachments
            .map(|attachment| attachment.ifname().to_owned())
            .collect()
    }
}

impl Slot {
    /// Whether this client has a lease for the attachment, or seeks one.
    fn is_of_client(&self, client: &ClientIdentity) -> bool {
        self.leases().any(|lease| lease.client() == *client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record;
    use crate::state::{LeaseStatus, Record};

    fn attachment(container: &str, ifname: &str) -> Attachment {
        Attachment::new(container, "netavark", ifname).expect("valid names")
    }

    fn of_container() -> ClientId {
        ClientId::Sent(b"\0c1"[..].into())
    }

    /// The record of a lease that a container had under this identifier.
    fn past(ifname: &str, client_id: ClientId) -> Record {
        let mut record = record();
        record.attachment = attachment("before", ifname);
        record.params.client_id = client_id;
        record.with_status(LeaseStatus::Released)
    }

    #[tokio::test]
    async fn an_interface_shares_the_containers_identifier_with_no_other() {
        let own =
            |ifname: &str| ClientId::Sent(format!("\0c1/netavark.eth1/{ifname}").as_bytes().into());
        let chosen = |table: &Table, ifname: &str| {
            let mut params = record().params;
            params.client_id = own(ifname);
            let mac = record().interface.mac;
            choose_identity(
                table,
                &attachment("now", ifname),
                mac,
                params,
                of_container(),
            )
            .client_id
        };
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        assert_eq!(chosen(&table, "eth0"), of_container());
        assert_eq!(chosen(&table, "eth1"), of_container());
        // In the container's last life, eth1 was set up first.
        table.store.remember(past("eth1", of_container()));
        assert_eq!(chosen(&table, "eth1"), of_container());
        assert_eq!(chosen(&table, "eth0"), own("eth0"));
        // And eth2 second.
        table.store.remember(past("eth2", own("eth2")));
        assert_eq!(chosen(&table, "eth2"), own("eth2"));
    }
}
