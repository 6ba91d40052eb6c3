//! What a client is told before it starts.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::options::{RawOption, code};

/// The options asked for unless the configuration says otherwise (option 55).
///
/// The order is the client's order of preference (RFC 2132 section 9.8); RFC 3442 wants 121 before
/// 33 and 3, because a server short of space leaves out what comes last.
pub const DEFAULT_REQUEST: [u8; 15] = [1, 121, 33, 3, 6, 12, 15, 26, 28, 42, 51, 54, 58, 59, 119];

/// How one client presents itself and behaves. Make one with [`Config::new`] and change what
/// differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interface's Ethernet address, sent and expected back as `chaddr`.
    pub mac: [u8; 6],
    /// The whole body of option 61, the same in every message of a lease's life; `None` sends none,
    /// and the server then knows the client by its `mac`. Two octets at least (RFC 2132 section
    /// 9.14). See [`crate::client_id`].
    pub client_id: Option<Vec<u8>>,
    /// The codes of option 55, in order of preference; empty sends no such option. Default:
    /// [`DEFAULT_REQUEST`].
    pub request: Vec<u8>,
    /// Further options, sent as they are in DISCOVER, REQUEST and INFORM. Those of
    /// [`Config::is_reserved`] codes are the client's own business and left out.
    pub options: Vec<RawOption>,
    /// An address to ask for in the first DISCOVER (option 50) and to prefer among offers.
    pub requested_address: Option<Ipv4Addr>,
    /// Ask servers to broadcast their replies from the first message on. When `false` (the default)
    /// they are asked to once two messages in a row went unanswered, in case unicast replies do not
    /// get through.
    pub broadcast: bool,
    /// Offer to bind in one round trip (RFC 4039) to a server that can.
    pub rapid_commit: bool,
    /// Hold a new address as granted, not bound, until the driver says
    /// [`accept`](crate::Client::accept) or [`decline`](crate::Client::decline): the room in which
    /// it probes for a conflict (RFC 2131 section 2.2).
    pub confirm: bool,
    /// How long to go on collecting offers after the first acceptable one. Zero, the default, takes
    /// it at once.
    pub collect: Duration,
    /// Which servers are listened to.
    pub servers: Servers,
    /// The pace of retransmission.
    pub retry: Retry,
    /// Option 57, the largest message we take. Default: what fits an Ethernet frame, however a
    /// server counts headers. `None` leaves servers at RFC 2131's 576, in which a long list of
    /// routes has no room.
    pub max_message_size: Option<u16>,
}

impl Config {
    /// The defaults, for the interface with this Ethernet address.
    pub fn new(mac: [u8; 6]) -> Config {
        Config {
            mac,
            client_id: None,
            request: DEFAULT_REQUEST.to_vec(),
            options: Vec::new(),
            requested_address: None,
            broadcast: false,
            rapid_commit: false,
            confirm: false,
            collect: Duration::ZERO,
            servers: Servers::default(),
            retry: Retry::default(),
            max_message_size: Some(1472),
        }
    }

    /// Whether the client writes (or must not write) options of this code itself, so that
    /// [`Config::options`] cannot carry them.
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

/// Which servers are listened to, by their identifier (option 54).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// If not empty, these alone.
    pub allow: Vec<Ipv4Addr>,
    /// Never these, by identifier or by the address a message came from.
    pub deny: Vec<Ipv4Addr>,
}

impl Servers {
    /// Whether to listen to the server with this identifier, heard from this address (its own or a
    /// relay's).
    pub fn admit(&self, server: Ipv4Addr, from: Ipv4Addr) -> bool {
        let denied = self.deny.contains(&server) || self.deny.contains(&from);
        !denied && (self.allow.is_empty() || self.allow.contains(&server))
    }
}

/// The pace of retransmission (RFC 2131 section 4.1 in shape: doubling, up to a maximum, with
/// jitter).
///
/// It says nothing of an end: the client goes on for as long as it is driven, and its driver
/// decides how long to wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first wait for an answer. Default 1 s (RFC 2131 suggests 4 s, from a time of slower
    /// networks).
    pub first: Duration,
    /// The longest wait. Default 64 s.
    pub max: Duration,
    /// How often a REQUEST for an offered address is sent before discovery starts over. Default 4.
    pub requests: u32,
    /// How often a REQUEST for a remembered address (INIT-REBOOT) is sent before discovery starts.
    /// Default 2.
    pub reboots: u32,
    /// How long to wait before discovery starts over after a DECLINE; twice as long after each
    /// further one, up to `max`, until there is a lease. Default 10 s (RFC 2131 section 3.1.5).
    pub after_decline: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            first: Duration::from_secs(1),
            max: Duration::from_secs(64),
            requests: 4,
            reboots: 2,
            after_decline: Duration::from_secs(10),
        }
    }
}
