//! The names of a client's states.

use std::fmt;

/// A state of RFC 2131 figure 5, or one of the two that this client adds: `GRANTED` and `STOPPED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// The client pauses before it sends a DISCOVER.
    Init,
    /// DISCOVER sent; the client awaits offers.
    Selecting,
    /// REQUEST for an offer sent.
    Requesting,
    /// REQUEST for a known address sent. (The client leaves INIT-REBOOT as soon as it enters it.)
    Rebooting,
    /// The server acknowledged the address; the driver is checking it for a conflict.
    Granted,
    /// The address may be used.
    Bound,
    /// T1 has passed: the client asks its own server for an extension, by unicast.
    Renewing,
    /// T2 has passed: the client asks any server for an extension, by broadcast.
    Rebinding,
    /// The driver released the client, which does nothing from then on.
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
            StateName::Stopped => "STOPPED",
        })
    }
}
