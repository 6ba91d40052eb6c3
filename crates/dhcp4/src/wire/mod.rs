//! Messages as octets. Only this module uses the codec, `dhcproto`, and it keeps malformed packets
//! away from it.
//!
//! A packet is read in three steps, so that a malformed part costs only itself:
//!
//! 1. `header` checks the fixed fields before anything relies on them. (`dhcproto` trusts `hlen` as
//!    a length and ignores the magic cookie.)
//! 2. `raw_options` splits the options into code, length and value, those in overloaded fields
//!    included (RFC 2131 section 4.1), and joins the fragments of a long option (RFC 3396).
//! 3. `values` decodes each option by itself, after a check of its length. (`dhcproto` would stop
//!    at the first option that it cannot decode and drop all that follow, perhaps the lease time
//!    and the server identifier.)

mod decode;
mod encode;
mod header;
mod raw_options;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use decode::{Reply, ReplyKind};
pub(crate) use encode::Outgoing;
