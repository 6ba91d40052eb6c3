//! The daemon's own failures.

use std::fmt::Display;

use cni::{Error, code};

/// The error for a failure that is neither the caller's nor the network's.
pub(super) fn internal(problem: impl Display) -> Error {
    Error::new(code::INTERNAL, format!("the dhcp daemon failed: {problem}"))
}
