//! `sourceRouting`: packets from the interface's addresses leave through this interface, whatever
//! the container's default route is. They are looked up in a routing table of its own, to which a
//! rule for each address sends them.
//!
//! A rule's address and table show which interface it is for. A rule that leads to no interface
//! with that address is stale, and the next operation removes it. So no record is needed for an
//! interface that disappeared by itself, was renamed, or got a different address than ADD gave it.

mod key;
mod routes;
mod rules;

pub use key::SourceRouting;
pub use routes::expand;
pub(super) use routes::on_link;
pub use rules::{ensure_table_is_free, remove_stale_rules};
pub(super) use rules::{leads_to, rule};
