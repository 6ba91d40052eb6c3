//! The error document (spec §5, "Error") and its codes.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::printable::printable;

/// Why an invocation failed, as the runtime sees it.
///
/// `msg` is one line that says what failed and on which object. `details` says how far the plugin
/// got and what to try next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of the constants in [`code`], or a code of the plugin's own.
    pub code: u32,
    /// What failed and on which object, in one line.
    pub msg: String,
    /// Further help; empty if there is nothing to add.
    pub details: String,
}

/// Error codes. The specification defines those below 100 and leaves the others to plugins. This
/// library uses 100 to 102; a plugin should number its own from 110.
pub mod code {
    /// The `cniVersion` of the configuration is not supported, or does not have this verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported. The message contains its key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or gone, so the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A `CNI_*` variable is missing or invalid. The message names it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading stdin or writing stdout failed.
    pub const IO_FAILURE: u32 = 5;
    /// Content could not be decoded: stdin is not a JSON object, for example.
    pub const DECODING_FAILURE: u32 = 6;
    /// The network configuration is invalid.
    pub const INVALID_NETWORK_CONFIG: u32 = 7;
    /// A temporary failure. The runtime should try again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: the plugin cannot serve ADD requests.
    pub const PLUGIN_NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve ADD requests, and existing containers may have limited
    /// connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;

    /// The plugin has a bug; for example, it panicked.
    pub const INTERNAL: u32 = 100;
    /// No folder of CNI_PATH contains an executable with the delegate's name.
    pub const DELEGATE_NOT_FOUND: u32 = 101;
    /// The delegate could not be run, or its answer violates the specification.
    pub const DELEGATE_FAILED: u32 = 102;
}

impl Error {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Error {
        Error {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// Replaces the details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// Appends to the details.
    #[must_use]
    pub fn and_details(mut self, more: &str) -> Error {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(more);
        self
    }

    /// Writes the error document. It has this shape in every version of the specification, so the
    /// version is only copied into it. Runtimes show the texts as they are, so they are made
    /// [`printable()`].
    pub(crate) fn to_value(&self, cni_version: &str) -> Value {
        let mut document = json!({
            "cniVersion": cni_version,
            "code": self.code,
            "msg": printable(&self.msg),
        });
        if !self.details.is_empty() {
            document["details"] = printable(&self.details).into();
        }
        document
    }

    /// Reads an error document that another plugin wrote. Returns `None` if `object` has neither a
    /// numeric `code` nor a textual `msg`, and so is not an error document.
    pub fn from_object(object: &Map<String, Value>) -> Option<Error> {
        let text = |key| object.get(key).and_then(Value::as_str);
        let code = object
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u32::try_from(code).ok());
        let msg = text("msg");
        if code.is_none() && msg.is_none() {
            return None;
        }
        Some(Error {
            code: code.unwrap_or(code::DELEGATE_FAILED),
            msg: msg.unwrap_or_default().to_owned(),
            details: text("details").unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_details_are_left_out_of_the_document() {
        let error = Error::new(code::TRY_AGAIN_LATER, "no free address in 10.99.0.0/24");
        assert_eq!(
            error.to_value("0.4.0"),
            json!({ "cniVersion": "0.4.0", "code": 11, "msg": "no free address in 10.99.0.0/24" })
        );
        let error = error.details("254 of 254 in use");
        assert_eq!(error.to_value("1.1.0")["details"], "254 of 254 in use");
        assert_eq!(
            error.to_string(),
            "no free address in 10.99.0.0/24: 254 of 254 in use"
        );
    }

    #[test]
    fn no_text_of_the_document_controls_the_terminal_that_shows_it() {
        let error = Error::new(7, "bad\u{1b}[2J\nFORGED").details("\u{9b}31m\u{202e}");
        let document = error.to_value("1.1.0");
        assert_eq!(document["msg"], r"bad\u{1b}[2J\nFORGED");
        assert_eq!(document["details"], r"\u{9b}31m\u{202e}");
    }

    #[test]
    fn a_document_with_a_code_or_a_message_is_an_error_and_any_other_is_not() {
        let read = |document: Value| Error::from_object(document.as_object().unwrap());
        assert_eq!(
            read(json!({ "code": 7, "msg": "bad" })),
            Some(Error::new(7, "bad"))
        );
        assert_eq!(
            read(json!({ "msg": "bad" })),
            Some(Error::new(code::DELEGATE_FAILED, "bad"))
        );
        assert_eq!(read(json!({ "cniVersion": "1.0.0", "ips": [] })), None);
    }
}
