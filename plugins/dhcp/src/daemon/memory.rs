//! Who had which address: the same one is asked for again when the same client comes back.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::protocol::Terms;
use crate::store::{Record, Standing};

/// How many clients are remembered. Beyond that, those go first whose leases end first.
const LIMIT: usize = 4096;

/// How a server knows a client: the network it is on, and the identifier it sends, or its MAC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    network: String,
    client: Vec<u8>,
}

impl Identity {
    /// The identity of a client on these terms.
    pub(crate) fn new(network: &str, terms: &Terms, mac: linknet::Mac) -> Identity {
        let client = terms
            .client_id
            .body(mac)
            .unwrap_or_else(|| mac.octets().to_vec());
        Identity {
            network: network.to_owned(),
            client,
        }
    }

    fn of(record: &Record) -> Identity {
        Identity::new(record.attachment.network(), &record.terms, record.place.mac)
    }
}

/// An address that a client had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// Who lent it.
    pub(crate) server: Ipv4Addr,
    /// Whether the server was told that it is free again. If not, one round trip may do to get it
    /// back (INIT-REBOOT).
    pub(crate) released: bool,
}

/// The memory of leases that ended.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    records: HashMap<Identity, Record>,
}

impl Memory {
    /// Remembers a lease that has ended. Returns records to be forgotten, on disk too, because
    /// others are worth more.
    pub(crate) fn remember(&mut self, record: Record) -> Vec<Record> {
        let mut forgotten: Vec<Record> = self
            .records
            .insert(Identity::of(&record), record)
            .into_iter()
            .collect();
        if self.records.len() > LIMIT {
            forgotten.extend(self.forget_expired());
        }
        while self.records.len() > LIMIT {
            let first = self
                .records
                .iter()
                .min_by_key(|(_, record)| (record.expires.is_none(), record.expires))
                .map(|(identity, _)| identity.clone());
            forgotten.extend(first.and_then(|identity| self.records.remove(&identity)));
        }
        forgotten
    }

    /// What is known of a client.
    pub(crate) fn recall(&self, identity: &Identity) -> Option<(Remembered, Record)> {
        let record = self
            .records
            .get(identity)
            .filter(|record| !record.has_expired())?;
        let remembered = Remembered {
            address: record.lease.address,
            server: record.lease.server_id,
            released: record.standing == Standing::Released,
        };
        Some((remembered, record.clone()))
    }

    /// Forgets what a record says, if it is still what is known of its client.
    pub(crate) fn forget(&mut self, record: &Record) {
        let identity = Identity::of(record);
        if self.records.get(&identity) == Some(record) {
            self.records.remove(&identity);
        }
    }

    /// Forgets, and returns, the records of leases that have ended by the calendar.
    pub(crate) fn forget_expired(&mut self) -> Vec<Record> {
        self.records
            .extract_if(|_, record| record.has_expired())
            .map(|(_, record)| record)
            .collect()
    }
}
