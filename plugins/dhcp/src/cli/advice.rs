//! What to do about an error.

use std::io::{self, ErrorKind};

/// The end of a sentence about an error; empty if there is nothing to advise.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
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
