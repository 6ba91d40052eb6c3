//! Past leases: a client that comes back asks for the address that it had.

use std::collections::HashMap;
use std::sync::Arc;

use linknet::Mac;

use crate::protocol::LeaseParams;
use crate::state::{LeaseStatus, Record};

/// How many past leases are kept. Beyond that, those that expire first are forgotten.
const MAX_PAST_LEASES: usize = 4096;

/// How a server identifies a client: by its network, and its client identifier or MAC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientIdentity {
    network: String,
    client: Arc<[u8]>,
}

impl ClientIdentity {
    /// The identity of a client with these parameters.
    pub(crate) fn new(network: &str, params: &LeaseParams, mac: Mac) -> ClientIdentity {
        let client_id = params.client_id.body(mac);
        ClientIdentity {
            network: network.to_owned(),
            client: client_id.unwrap_or_else(|| mac.octets()[..].into()),
        }
    }

    /// Whether a server that serves both networks takes both for one client.
    pub(crate) fn is_same_client(&self, other: &ClientIdentity) -> bool {
        self.client == other.client
    }

    /// The identity of the client that had this lease.
    pub(crate) fn of(record: &Record) -> ClientIdentity {
        ClientIdentity::new(
            record.attachment.network(),
            &record.params,
            record.interface.mac,
        )
    }
}

/// The last lease of each client that has none now.
#[derive(Debug, Default)]
pub(super) struct PastLeases {
    records: HashMap<ClientIdentity, Record>,
}

impl PastLeases {
    /// Adds a lease that has ended. Returns the records that it displaced.
    pub(super) fn insert(&mut self, record: Record) -> Vec<Record> {
        let previous = self.records.insert(ClientIdentity::of(&record), record);
        let mut displaced: Vec<Record> = previous.into_iter().collect();
        if self.records.len() > MAX_PAST_LEASES {
            displaced.extend(self.remove_expired());
        }
        while self.records.len() > MAX_PAST_LEASES {
            let first = self
                .records
                .iter()
                .min_by_key(|(_, record)| (record.expires.is_none(), record.expires))
                .map(|(client, _)| client.clone());
            displaced.extend(first.and_then(|client| self.records.remove(&client)));
        }
        displaced
    }

    /// The last lease of a client, unless it has expired by now.
    pub(super) fn get(&self, client: &ClientIdentity) -> Option<&Record> {
        self.records
            .get(client)
            .filter(|record| !record.has_expired())
    }

    /// The leases of this boot that were abandoned although nobody has ended their attachments.
    pub(super) fn abandoned(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| {
            record.status == LeaseStatus::Abandoned
                && !record.is_detached()
                && record.is_of_this_boot() != Some(false)
        })
    }

    /// Removes a record, if it is still its client's last lease.
    pub(super) fn remove(&mut self, record: &Record) {
        let client = ClientIdentity::of(record);
        if self.records.get(&client) == Some(record) {
            self.records.remove(&client);
        }
    }

    /// Removes and returns the records of leases that have expired by now.
    pub(super) fn remove_expired(&mut self) -> Vec<Record> {
        self.records
            .extract_if(|_, record| record.has_expired())
            .map(|(_, record)| record)
            .collect()
    }
}
