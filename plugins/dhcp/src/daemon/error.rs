//! The daemon's own failures.

use std::fmt::Display;
use std::io;

use cni::{Error, code};

/// The error for a failure that is neither the caller's nor the network's.
pub(super) fn internal(problem: impl Display) -> Error {
    Error::new(code::INTERNAL, format!("the dhcp daemon failed: {problem}"))
}

/// Makes an error that says what the daemon cannot do.
pub(super) fn cannot<E: Display>(what: &str) -> impl FnOnce(E) -> io::Error {
    move |error| io::Error::other(format!("cannot {what}: {error}"))
}
