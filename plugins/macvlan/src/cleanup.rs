//! What an attachment has in the container that does not disappear with its interface: rules, and
//! routes through other interfaces.

use attachment::{OwnerMark, keep_routes, source_routing};
use linknet::{Link, Netlink};

/// Removes it, before the interfaces `leaving` go. Only the kernel is asked what there is, so
/// neither the configuration, nor how far an ADD got, nor the interface's fate matter.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn remove(inside: &Netlink, mark: &OwnerMark, leaving: &[Link]) -> linknet::Result<()> {
    keep_routes::remove(inside, mark)?;
    source_routing::remove_stale_rules(inside, leaving)
}
