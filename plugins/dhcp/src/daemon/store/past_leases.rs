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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::{Duration, SystemTime};

    use crate::protocol::ClientId;
    use crate::state::tests::record;

    use super::*;

    /// The lease of another client for each number.
    fn past(number: usize) -> Record {
        static RECORD: OnceLock<Record> = OnceLock::new();
        let mut record = RECORD.get_or_init(record).clone();
        record.params.client_id = ClientId::Sent(number.to_be_bytes().as_slice().into());
        record
    }

    fn ending(number: usize, end: SystemTime) -> Record {
        let mut record = past(number);
        record.expires = Some(end);
        record
    }

    fn expired(number: usize) -> Record {
        ending(number, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn beyond_the_limit_expired_leases_are_forgotten_first() {
        let mut leases = PastLeases::default();
        let mut displaced = Vec::new();
        displaced.extend(leases.insert(expired(0)));
        displaced.extend(leases.insert(expired(1)));
        for number in 2..MAX_PAST_LEASES {
            displaced.extend(leases.insert(past(number)));
        }
        assert!(displaced.is_empty(), "there is room for them");
        displaced.extend(leases.insert(past(MAX_PAST_LEASES)));
        let is_displaced = |record| displaced.contains(&record);
        assert!(displaced.len() == 2 && is_displaced(expired(0)) && is_displaced(expired(1)));
    }

    #[test]
    fn beyond_the_limit_the_lease_that_ends_first_is_forgotten() {
        let mut leases = PastLeases::default();
        let in_hours = |hours: u64| SystemTime::now() + Duration::from_secs(hours * 3600);
        let (first, later) = (ending(0, in_hours(1)), ending(1, in_hours(2)));
        for record in [later, first.clone()] {
            assert!(leases.insert(record).is_empty());
        }
        for number in 2..MAX_PAST_LEASES {
            assert!(leases.insert(past(number)).is_empty());
        }
        assert_eq!(leases.insert(past(MAX_PAST_LEASES)), [first]);
    }

    #[test]
    fn a_lease_that_has_expired_or_is_superseded_is_not_asked_for() {
        let mut leases = PastLeases::default();
        let (ended, current) = (expired(0), past(1));
        leases.insert(ended.clone());
        leases.insert(current.clone());
        let client = ClientIdentity::of(&current);
        assert_eq!(leases.get(&ClientIdentity::of(&ended)), None);
        assert_eq!(leases.get(&client), Some(&current));
        leases.remove(&current.clone().with_status(LeaseStatus::Lost));
        assert_eq!(leases.get(&client), Some(&current), "another record");
        leases.remove(&current);
        assert_eq!(leases.get(&client), None);
    }

    #[test]
    fn only_an_attachment_that_has_not_ended_has_an_abandoned_lease() {
        let mut leases = PastLeases::default();
        let active = past(0);
        let boot = Record::new(
            active.attachment,
            active.interface,
            active.params,
            active.lease,
            None,
        );
        let of = |number, mut record: Record| {
            record.params = past(number).params;
            record
        };
        let abandoned = of(1, boot.clone().with_status(LeaseStatus::Abandoned));
        leases.insert(abandoned.clone());
        leases.insert(of(2, boot.clone().with_status(LeaseStatus::Released)));
        leases.insert(of(3, boot.detached()));
        // Of another boot.
        leases.insert(past(4).with_status(LeaseStatus::Abandoned));
        assert_eq!(leases.abandoned().collect::<Vec<_>>(), [&abandoned]);
    }
}
