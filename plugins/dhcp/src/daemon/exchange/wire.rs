//! What the exchanges of one client have shown about the link below DHCP.

use std::cell::Cell;

use linknet::Mac;

/// What the exchanges of one client have shown about the link below DHCP: it outlives their
/// sockets.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The MAC that the server, or the relay before it, last sent from.
    server_mac: Cell<Option<Mac>>,
    /// Whether nothing came back since a message was sent to that MAC.
    unanswered: Cell<bool>,
}

impl Wire {
    /// A link on which the server was last heard from this MAC.
    pub(crate) fn with_server(mac: Option<Mac>) -> Wire {
        Wire {
            server_mac: Cell::new(mac),
            unanswered: Cell::default(),
        }
    }

    /// The MAC that the server, or the relay before it, last sent from.
    pub(crate) fn server_mac(&self) -> Option<Mac> {
        self.server_mac.get()
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
}
