//! The configuration of a client.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::options::{RawOption, code};
use crate::time::Instant;

/// The options that a client requests by default (option 55).
///
/// The order is that of preference (RFC 2132 section 9.8). Option 121 comes before 33 and 3, as RFC
/// 3442 demands, because a server that runs out of space leaves out the last ones.
pub const DEFAULT_REQUEST: [u8; 15] = [1, 121, 33, 3, 6, 12, 15, 26, 28, 42, 51, 54, 58, 59, 119];

/// The configuration of a client. Start from [`Config::new`] and change what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interface's Ethernet address: the `chaddr` of every message.
    pub mac: [u8; 6],
    /// The body of option 61, at least two octets (RFC 2132 section 9.14); see
    /// [`client_id`](crate::client_id). It must stay the same as long as a lease lives. `None`, the
    /// default, sends no option 61, and the server identifies the client by its `mac`.
    pub client_id: Option<Arc<[u8]>>,
    /// The codes of option 55, in order of preference; empty sends no such option. Default:
    /// [`DEFAULT_REQUEST`].
    pub request: Vec<u8>,
    /// More options for DISCOVER and REQUEST. Those that the client writes itself
    /// ([`Config::is_reserved`]) are left out.
    pub options: Vec<RawOption>,
    /// An address to ask for in the first DISCOVER (option 50).
    pub requested_address: Option<Ipv4Addr>,
    /// The only address to take, if there is one. The client asks for it in every DISCOVER, ignores
    /// offers of others ([`Event::OtherOffered`](crate::Event::OtherOffered)), and does without
    /// `rapid_commit`, because that leaves the choice to the server. See
    /// [`Client::require_address`](crate::Client::require_address).
    pub only_address: Option<Ipv4Addr>,
    /// Whether to ask servers for broadcast replies from the first message on. Otherwise, which is
    /// the default, the client asks for them after two messages in a row without an answer, in case
    /// unicast replies do not reach it.
    pub broadcast: bool,
    /// Whether to accept a lease in one round trip from a server that supports it (RFC 4039).
    pub rapid_commit: bool,
    /// Whether a new address waits in `GRANTED` until the driver calls
    /// [`accept`](crate::Client::accept) or [`decline`](crate::Client::decline), so that the driver
    /// can probe for a conflict first (RFC 2131 section 2.2).
    pub probe_before_bind: bool,
    /// The servers to accept.
    pub servers: Servers,
    /// The pace of retransmission.
    pub retry: Retry,
    /// When the driver gives up its first wait for an address, if it will. Until the client has a
    /// lease, no pause is longer than 8 s or a quarter of the time that is left (but at least
    /// [`Retry::first`]), and one message goes out two seconds before the deadline: a network that
    /// becomes usable late must not be missed.
    pub deadline: Option<Instant>,
}

impl Config {
    /// The default configuration for an interface with this Ethernet address.
    pub fn new(mac: [u8; 6]) -> Config {
        Config {
            mac,
            client_id: None,
            request: DEFAULT_REQUEST.to_vec(),
            options: Vec::new(),
            requested_address: None,
            only_address: None,
            broadcast: false,
            rapid_commit: false,
            probe_before_bind: false,
            servers: Servers::default(),
            retry: Retry::default(),
            deadline: None,
        }
    }

    /// Whether the client itself writes options of this code, or must not send them, so that
    /// [`Config::options`] cannot contain them.
    pub const fn is_reserved(option: u8) -> bool {
        matches!(
            option,
            code::PAD
                | code::REQUESTED_ADDRESS
                | code::OVERLOAD
                | code::MESSAGE_TYPE
                | code::SERVER_ID
                | code::PARAMETER_REQUEST_LIST
                | code::MESSAGE
                | code::MAX_MESSAGE_SIZE
                | code::CLIENT_ID
                | code::RAPID_COMMIT
                | code::RELAY_AGENT
                | code::END
        )
    }
}

/// Which servers to accept, by their identifier (option 54).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// If not empty, only these servers.
    pub allow: Vec<Ipv4Addr>,
    /// Never these, whether the address is a server's identifier or the source of its packet.
    pub deny: Vec<Ipv4Addr>,
}

impl Servers {
    /// Whether to accept a packet with this server identifier and source address (the server's or a
    /// relay's).
    pub(crate) fn accepts(&self, server: Ipv4Addr, from: Ipv4Addr) -> bool {
        let denied = self.deny.contains(&server) || self.deny.contains(&from);
        !denied && (self.allow.is_empty() || self.allow.contains(&server))
    }
}

/// The pace of retransmission: waits that double up to a maximum, with jitter (RFC 2131 section
/// 4.1).
///
/// The client never gives up: it discovers again and again until its driver drops it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first wait for an answer. Default: 1 s. (RFC 2131 suggests 4 s, for slower networks.)
    pub first: Duration,
    /// The longest wait for an answer. Default: 30 s. (RFC 2131 section 4.1 allows 64 s, but a host
    /// that has lost its address is cut off until it asks again.)
    pub max: Duration,
    /// How often a REQUEST for an offer is sent before the client discovers again. Default: 4.
    pub requests: u32,
    /// The pause between a DECLINE and the next DISCOVER. It doubles with each further DECLINE, up
    /// to `max`, until the client has a lease. Default: 10 s (RFC 2131 section 3.1.5).
    pub after_decline: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            first: Duration::from_secs(1),
            max: Duration::from_secs(30),
            requests: 4,
            after_decline: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_denied_by_its_identifier_or_the_source_of_its_packet() {
        let [ours, theirs, relay] =
            [[10, 0, 0, 1], [10, 0, 0, 2], [10, 1, 0, 1]].map(Ipv4Addr::from);
        let deny = |denied| Servers {
            deny: vec![denied],
            ..Servers::default()
        };
        assert!(deny(theirs).accepts(ours, relay));
        assert!(!deny(ours).accepts(ours, relay));
        assert!(!deny(relay).accepts(ours, relay));
        let only_ours = Servers {
            allow: vec![ours],
            ..deny(relay)
        };
        assert!(only_ours.accepts(ours, theirs));
        assert!(!only_ours.accepts(theirs, ours));
        assert!(!only_ours.accepts(ours, relay));
    }
}
