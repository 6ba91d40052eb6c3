//! Flags as programs written in Go take them.

use std::ffi::OsString;

/// Go's flag package treats `-name` as `--name`; clap would read it as several short flags.
pub(crate) fn with_two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_of_several_letters_may_have_one_dash() {
        for (arg, read) in [
            ("-idle", "--idle"),
            ("-ab", "--ab"),
            ("--idle", "--idle"),
            ("-h", "-h"),
            ("-", "-"),
            ("idle", "idle"),
        ] {
            assert_eq!(with_two_dashes(arg.into()), read, "{arg}");
        }
    }
}
