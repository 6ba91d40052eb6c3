//! What to do about an error.

use std::io::{self, ErrorKind};

use cni::Error;

use crate::plugin::client::{Failure, START};

/// The end of a sentence about an error; empty if there is nothing to advise.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
    }
}

/// A sentence about a daemon that did not serve a command.
pub(super) fn of_failure(failure: Failure) -> String {
    match failure {
        Failure::NoDaemon(Error { msg, .. }) => format!(
            "{msg}; {START}; if it listens on another socket, give that one as --socketpath"
        ),
        failure => {
            let Error { msg, details, .. } = failure.into();
            match details.as_str() {
                "" => msg,
                details => format!("{msg}; {details}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_right_is_told_to_be_root() {
        assert!(advice(&ErrorKind::PermissionDenied.into()).contains("root"));
        assert_eq!(advice(&ErrorKind::NotFound.into()), "");
    }
}
