//! The parts of an attachment in the container that do not disappear with its interface: rules, and
//! routes through other interfaces.

use attachment::{OwnerMark, keep_routes, source_routing};
use linknet::{Link, Netlink, or_absent};

/// Removes them, before the interfaces `leaving` are removed. It asks only the kernel, so it
/// depends neither on the configuration, nor on how far an ADD got, nor on whether the interface
/// still exists.
///
/// # Errors
/// The kernel's first refusal. The rest is still removed.
pub(crate) fn remove(inside: &Netlink, mark: &OwnerMark, leaving: &[Link]) -> linknet::Result<()> {
    let routes = keep_routes::remove(inside, mark);
    routes.and(source_routing::remove_stale_rules(inside, leaving))
}

/// Takes all addresses off the interfaces `leaving`.
///
/// # Errors
/// The kernel's first refusal. The others are still removed.
pub(crate) fn take_addresses_off(inside: &Netlink, leaving: &[Link]) -> linknet::Result<()> {
    let mut outcome = Ok(());
    for link in leaving {
        let addresses = match inside.addresses(link.index) {
            Ok(addresses) => addresses,
            Err(error) => {
                outcome = outcome.and(Err(error));
                continue;
            }
        };
        for address in addresses {
            // The kernel removes secondary addresses with their primary one.
            outcome = outcome.and(or_absent(inside.remove_address(&address)));
        }
    }
    outcome
}
