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

/// The error for a failed system call: `TRY_AGAIN_LATER` (11) if descriptors or memory are short,
/// `IO_FAILURE` (5) otherwise. `what` could not be done.
pub(super) fn io_failure(what: impl Display, error: &io::Error) -> Error {
    let code = match is_exhausted(error) {
        true => code::TRY_AGAIN_LATER,
        false => code::IO_FAILURE,
    };
    Error::new(code, format!("{what}: {error}"))
}

fn is_exhausted(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<linknet::Error>());
    match inner {
        Some(error) => error.is_exhausted(),
        None => linknet::Error::io("", error).is_exhausted(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_descriptors_is_worth_another_try() {
        const EMFILE: i32 = 24;
        const ENODEV: i32 = 19;
        for (errno, code) in [(EMFILE, code::TRY_AGAIN_LATER), (ENODEV, code::IO_FAILURE)] {
            let plain = io::Error::from_raw_os_error(errno);
            let wrapped = io::Error::other(linknet::Error::io("open a socket", &plain));
            for error in [plain, wrapped] {
                assert_eq!(io_failure("cannot ask", &error).code, code, "{error}");
            }
        }
    }
}
