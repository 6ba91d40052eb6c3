//! The parts of an attachment in the container that do not disappear with its interface: rules, and
//! routes through other interfaces.
//!
//! A list that changed during every attempt to read it is only worth a warning here: root in the
//! container can change it as long as it likes, and the interface is removed after that.

use attachment::{OwnerMark, keep_routes, source_routing};
use linknet::{Link, Netlink, or_absent};

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
                outcome = outcome.and(or_interrupted(Err(error)));
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
