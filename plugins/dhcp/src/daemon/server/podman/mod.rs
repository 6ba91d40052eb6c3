//! netavark's DHCP proxy protocol, so that Podman's networks of the drivers `macvlan` and `bridge`
//! lease their addresses here, in place of netavark-dhcp-proxy.
//!
//! - `connection` is a connection of HTTP/2 with its calls, and what is left of a caller that hangs
//!   up.
//! - `calls` is what each call does: the same as a verb of the plugin's.
//! - `translation` makes an attachment and the parameters of a lease of netavark's message, and
//!   netavark's answer of a lease.

mod calls;
mod connection;
mod delivery;
mod translation;

pub(super) use connection::serve;
