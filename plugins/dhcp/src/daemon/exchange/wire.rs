//! What the exchanges of one client have shown about the link below DHCP.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

use linknet::Mac;
use linknet::frame::Rejected;
use tokio::time::Instant;

/// What the exchanges of one client have shown about the link below DHCP: it outlives their
/// sockets.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The MAC that the server, or the relay before it, last sent from.
    server_mac: Cell<Option<Mac>>,
    /// Whether nothing came back since a message was sent to that MAC.
    unanswered: Cell<bool>,
    /// When the last message was sent.
    last_sent: Cell<Option<Instant>>,
    /// What went wrong. Most clients have nothing of it, and there may be thousands.
    faults: RefCell<Option<Box<Faults>>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// How many frames were dropped before the client saw them, by reason.
    rejected: BTreeMap<Rejected, u64>,
    /// How many messages could not be sent.
    unsent: u64,
    /// Why the last of them could not.
    last_send_error: String,
}

impl Wire {
    /// A link on which the server was last heard from this MAC.
    pub(crate) fn with_server(mac: Option<Mac>) -> Wire {
        Wire {
            server_mac: Cell::new(mac),
            ..Wire::default()
        }
    }

    /// The MAC that the server, or the relay before it, last sent from.
    pub(crate) fn server_mac(&self) -> Option<Mac> {
        self.server_mac.get()
    }

    /// When the last message was sent, or could not be.
    pub(crate) fn last_sent(&self) -> Option<Instant> {
        self.last_sent.get()
    }

    /// Notes that a message is being sent.
    pub(crate) fn note_sent(&self) {
        self.last_sent.set(Some(Instant::now()));
    }

    /// Whether it is unknown where the server is now, so that ARP must be asked.
    pub(super) fn is_server_in_doubt(&self) -> bool {
        self.server_mac.get().is_none() || self.unanswered.get()
    }

    /// Notes that a message was sent to the server alone.
    pub(super) fn note_asked(&self) {
        self.unanswered.set(true);
    }

    /// Notes that the client has acted upon a message from this MAC.
    pub(super) fn note_answered(&self, from: Mac) {
        self.server_mac.set(Some(from));
        self.unanswered.set(false);
    }

    /// Notes the MAC that ARP gave.
    pub(super) fn note_looked_up(&self, mac: Mac) {
        self.server_mac.set(Some(mac));
    }

    /// Notes a frame that was dropped.
    pub(super) fn note_rejected(&self, why: Rejected) {
        let mut faults = self.faults.borrow_mut();
        let rejected = &mut faults.get_or_insert_default().rejected;
        *rejected.entry(why).or_default() += 1;
    }

    /// Notes a message that could not be sent.
    pub(super) fn note_unsent(&self, error: &io::Error) {
        let mut faults = self.faults.borrow_mut();
        let faults = faults.get_or_insert_default();
        faults.unsent += 1;
        faults.last_send_error = error.to_string();
    }
}

/// What the client's report does not have: `; 2 frames dropped: wrong UDP checksum; 1 message could
/// not be sent: Network is down`. Empty if there is nothing of that kind.
impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.borrow();
        let Some(faults) = &*faults else {
            return Ok(());
        };
        let s = |count| if count == 1 { "" } else { "s" };
        for (why, &count) in &faults.rejected {
            write!(f, "; {count} frame{} dropped: {why}", s(count))?;
        }
        match faults.unsent {
            0 => Ok(()),
            count => {
                let error = &faults.last_send_error;
                write!(
                    f,
                    "; {count} message{} could not be sent: {error}",
                    s(count)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_frames_and_unsent_messages_are_counted_with_their_reasons() {
        let wire = Wire::default();
        assert_eq!(wire.to_string(), "");
        wire.note_rejected(Rejected::Fragment);
        wire.note_rejected(Rejected::BadUdpChecksum);
        wire.note_rejected(Rejected::Fragment);
        wire.note_unsent(&io::Error::from(io::ErrorKind::WouldBlock));
        wire.note_unsent(&io::Error::from(io::ErrorKind::NetworkDown));
        assert_eq!(
            wire.to_string(),
            "; 2 frames dropped: IP fragment; 1 frame dropped: wrong UDP checksum; \
             2 messages could not be sent: network down"
        );
    }

    #[test]
    fn the_time_of_the_last_message_is_known() {
        let wire = Wire::default();
        assert_eq!(wire.last_sent(), None);
        let before = Instant::now();
        wire.note_sent();
        assert!(wire.last_sent().is_some_and(|sent| sent >= before));
    }

    #[test]
    fn the_server_is_in_doubt_until_heard_and_while_it_does_not_answer() {
        let wire = Wire::default();
        assert!(wire.is_server_in_doubt(), "never heard");
        wire.note_answered(Mac([2; 6]));
        assert!(!wire.is_server_in_doubt());
        wire.note_asked();
        assert!(wire.is_server_in_doubt(), "it has not answered");
        wire.note_looked_up(Mac([4; 6]));
        assert!(wire.is_server_in_doubt(), "nor from there");
        assert_eq!(wire.server_mac(), Some(Mac([4; 6])));
    }
}
