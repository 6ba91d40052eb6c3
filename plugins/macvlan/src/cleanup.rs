//! The parts of an attachment in the container that do not disappear with its interface: rules, and
//! routes through other interfaces.
//!
//! A list that changed during every attempt to read it is only worth a warning here: root in the
//! container can change it as long as it likes, and the interface is removed after that.

use std::net::IpAddr;

use attachment::{OwnerMark, keep_routes, source_routing};
use linknet::{Link, Netlink};

/// Removes them, before the interfaces `leaving` are removed. It asks only the kernel, so it
/// depends neither on the configuration, nor on how far an ADD got, nor on whether the interface
/// still exists.
///
/// # Errors
/// The kernel's first refusal. The rest is still removed.
pub(crate) fn remove(inside: &Netlink, mark: &OwnerMark, leaving: &[Link]) -> linknet::Result<()> {
    let routes = or_interrupted(keep_routes::remove(inside, mark));
    let rules = or_interrupted(source_routing::remove_stale_rules(inside, leaving));
    routes.and(rules)
}

/// How many addresses of an interface are removed one by one. The time that takes grows with the
/// square of their number, and root in the container can add any number.
const MAX_REMOVED: usize = 256;

/// Takes the addresses off the interfaces `leaving`: those that IPAM has `given`, and the others if
/// they are few. The kernel removes the rest with the interface, which takes it no time.
///
/// # Errors
/// If an address that IPAM has given may still be there. Where it is not known which those are, that
/// is so if there are too many to remove all, or if the kernel cannot list them.
pub(crate) fn take_addresses_off(
    inside: &Netlink,
    leaving: &[Link],
    given: Option<&[IpAddr]>,
) -> linknet::Result<()> {
    let mut outcome = Ok(());
    for link in leaving {
        for address in given.unwrap_or_default() {
            outcome = outcome.and(inside.take_off(link.index, *address).map(drop));
        }
        let all_removed = inside.take_all_off(link.index, MAX_REMOVED);
        if given.is_none() {
            outcome = outcome.and(all_removed);
        }
    }
    outcome
}

fn or_interrupted(outcome: linknet::Result<()>) -> linknet::Result<()> {
    match outcome {
        Err(error) if error.is_interrupted() => {
            log::warn!("{error}");
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use linknet::Error;

    use super::*;

    #[test]
    fn only_a_list_that_kept_changing_is_no_failure() {
        let refused = |errno| Err(Error::refusal("list addresses", errno, None));
        assert_eq!(or_interrupted(refused(4)), Ok(()));
        assert_eq!(or_interrupted(refused(1)), refused(1));
        assert_eq!(or_interrupted(Ok(())), Ok(()));
    }
}
