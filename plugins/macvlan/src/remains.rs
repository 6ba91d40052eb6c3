//! What an attachment has in the container that does not go with its interface: rules, and routes
//! through others.

use linknet::{Link, Netlink};

use crate::mark::Mark;
use crate::{keep_routes, source_routing};

/// Removes it, before these interfaces go. It asks the kernel alone what there is, so it does not
/// matter what the configuration says by now, how far an ADD got, or what became of the interface.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn remove(inside: &Netlink, mark: &Mark, leaving: &[Link]) -> linknet::Result<()> {
    keep_routes::remove(inside, mark)?;
    source_routing::sweep(inside, leaving)
}
