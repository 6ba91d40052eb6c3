//! Leases of one network usually have the same settings, and share their memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::protocol::{LeaseParams, Settings};

/// How many different settings are known at a time: those of a few networks.
const MAX_KNOWN: usize = 16;

/// The settings that leases have, the last ones first.
#[derive(Debug, Default)]
pub(super) struct SharedSettings(RefCell<VecDeque<Weak<Settings>>>);

impl SharedSettings {
    /// Replaces the settings by equal ones that another lease has, if there are any.
    pub(super) fn share(&self, params: &mut LeaseParams) {
        let mut known = self.0.borrow_mut();
        known.retain(|known| known.strong_count() > 0);
        let mut settings = known.iter().filter_map(Weak::upgrade);
        match settings.find(|known| *known == params.settings) {
            Some(equal) => params.settings = equal,
            None => {
                known.truncate(MAX_KNOWN - 1);
                known.push_front(Arc::downgrade(&params.settings));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::record;

    /// Parameters with settings of their own.
    fn params(priority: usize) -> LeaseParams {
        let mut params = record().params;
        params.priority = u32::try_from(priority).ok();
        params
    }

    #[test]
    fn equal_settings_are_shared_and_different_ones_are_not() {
        let settings = SharedSettings::default();
        let [mut one, mut equal, mut other] = [params(1), params(1), params(2)];
        for params in [&mut one, &mut equal, &mut other] {
            settings.share(params);
        }
        assert!(Arc::ptr_eq(&one.settings, &equal.settings));
        assert_eq!((one.priority, other.priority), (Some(1), Some(2)));
    }

    #[test]
    fn of_many_settings_the_last_are_known_and_none_is_kept_for_nobody() {
        let settings = SharedSettings::default();
        let mut all: Vec<LeaseParams> = (0..=MAX_KNOWN).map(params).collect();
        for params in &mut all {
            settings.share(params);
        }
        let is_known = |priority| {
            let mut again = params(priority);
            settings.share(&mut again);
            Arc::strong_count(&again.settings) > 1
        };
        assert!(is_known(MAX_KNOWN) && !is_known(0));
        drop(all);
        assert!(!is_known(MAX_KNOWN));
    }

    #[test]
    fn settings_that_nobody_has_any_more_take_no_place() {
        let settings = SharedSettings::default();
        let mut kept = params(0);
        settings.share(&mut kept);
        for priority in 1..=MAX_KNOWN {
            settings.share(&mut params(priority));
        }
        let mut again = params(0);
        settings.share(&mut again);
        assert!(Arc::ptr_eq(&again.settings, &kept.settings));
    }
}
