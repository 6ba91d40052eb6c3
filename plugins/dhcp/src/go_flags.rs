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
