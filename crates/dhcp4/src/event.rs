//! The words between a client and its driver.

use std::fmt;
use std::net::Ipv4Addr;

use crate::lease::Lease;
use crate::options::Options;

/// What happened to the lease. Every [`Lost`](Event::Lost) is of a lease that was bound (or
/// resumed) before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a driver has one at a time; a box would only be in its way"
)]
pub enum Event {
    /// A server granted this address. It is not to be used yet: the driver checks that nobody else
    /// does, then calls [`accept`](crate::Client::accept) or [`decline`](crate::Client::decline).
    /// Only with [`Config::confirm`](crate::Config::confirm).
    Granted(Lease),
    /// The address is ours, from now until [`Lease::expires_at`].
    Bound(Lease),
    /// The lease was extended. The address is the same; times and options may differ.
    Renewed {
        /// As it was.
        old: Lease,
        /// As it is now.
        new: Lease,
    },
    /// The address is no longer ours and must leave the interface now. Unless the client was told
    /// to stop, it is already looking for another.
    Lost {
        /// The lease that ended.
        lease: Lease,
        /// What ended it.
        why: Why,
    },
    /// A server answered an INFORM; the client is done.
    Informed(Options),
}

/// What ended a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody extended it in time.
    Expired,
    /// A server said that it is not, or no longer, ours.
    Nak(Nak),
    /// The driver found somebody else using the address.
    Declined,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Expired => f.write_str("expired"),
            Why::Nak(nak) => nak.fmt(f),
            Why::Declined => f.write_str("declined: the address is in use by somebody else"),
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nak {
    /// The server that refused.
    pub server: Ipv4Addr,
    /// What it said (option 56), made printable and cut at 128 characters.
    pub message: Option<String>,
}

impl fmt::Display for Nak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NAK from {}", self.server)?;
        match &self.message {
            Some(message) => write!(f, ": {message:?}"),
            None => Ok(()),
        }
    }
}

/// A message to send, always from UDP port 68 to port 67.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// Where it goes.
    pub delivery: Delivery,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To 255.255.255.255 and the Ethernet broadcast address.
    Broadcast {
        /// The IP source: 0.0.0.0 while there is no address, the leased one when REBINDING.
        source: Ipv4Addr,
    },
    /// To one server. From a socket of the leased address where the interface has it; a frame of
    /// the driver's own making where it does not (releasing an address that was never configured).
    Unicast {
        /// The IP source: the address that the message is about.
        source: Ipv4Addr,
        /// The server's identifier, which is its address.
        server: Ipv4Addr,
    },
}

/// Where replies can arrive, and so which socket is worth holding open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere: no reply is awaited.
    Nothing,
    /// On the link: there is no usable address yet, so only a packet socket hears the server.
    Link,
    /// At the leased address, port 68 (and broadcast, which NAKs are): an ordinary UDP socket.
    Address(Ipv4Addr),
}

/// The states of RFC 2131 figure 5, and the few it leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// About to discover, now or after a pause.
    Init,
    /// DISCOVER sent, offers awaited.
    Selecting,
    /// An offer chosen, REQUEST sent.
    Requesting,
    /// REQUEST for a remembered address sent (INIT-REBOOT is left in the moment it is entered).
    Rebooting,
    /// Acknowledged, and held until the driver has looked for a conflict.
    Granted,
    /// The address is ours.
    Bound,
    /// Past T1: asking our server for more time, by unicast.
    Renewing,
    /// Past T2: asking any server, by broadcast.
    Rebinding,
    /// INFORM sent, for options alone.
    Informing,
    /// Released, or informed: nothing more will happen.
    Stopped,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateName::Init => "INIT",
            StateName::Selecting => "SELECTING",
            StateName::Requesting => "REQUESTING",
            StateName::Rebooting => "REBOOTING",
            StateName::Granted => "GRANTED",
            StateName::Bound => "BOUND",
            StateName::Renewing => "RENEWING",
            StateName::Rebinding => "REBINDING",
            StateName::Informing => "INFORMING",
            StateName::Stopped => "STOPPED",
        })
    }
}
