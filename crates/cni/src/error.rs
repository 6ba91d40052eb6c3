//! The error document (spec §5 "Error") and its codes.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::Version;

/// Why an invocation failed, as the runtime gets to see it.
///
/// `msg` says what failed, on which object, in one line; `details` how far it got and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of [`code`], or the plugin's own from 100 on.
    pub code: u32,
    /// One line: what failed, on which object.
    pub msg: String,
    /// What else helps; empty when there is nothing to add.
    pub details: String,
}

/// Error codes. Those below 100 are the specification's; the rest belong to whoever answers.
pub mod code {
    /// The configuration's `cniVersion` is not supported, or does not have this verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported; the message holds its key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or gone; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A CNI_* variable is missing or invalid; the message names it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading stdin or writing stdout failed.
    pub const IO_FAILURE: u32 = 5;
    /// What came on stdin is not the JSON it should be.
    pub const DECODING_FAILURE: u32 = 6;
    /// The network configuration is invalid.
    pub const INVALID_NETWORK_CONFIG: u32 = 7;
    /// A passing condition: the runtime should try again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: the plugin cannot serve ADD requests.
    pub const PLUGIN_NOT_AVAILABLE: u32 = 50;
    /// STATUS: as 50, and containers that exist may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;

    /// The plugin has a bug: it panicked.
    pub const INTERNAL: u32 = 100;
    /// No executable of the delegate's name is on CNI_PATH.
    pub const DELEGATE_NOT_FOUND: u32 = 101;
    /// The delegate could not be run, or did not answer as the specification demands.
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

    /// The same error with its details replaced.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// The document of spec §5. Every version has the same one.
    pub fn to_value(&self, version: Version) -> Value {
        let mut document =
            json!({ "cniVersion": version.as_str(), "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            document["details"] = self.details.as_str().into();
        }
        document
    }

    /// Reads an error document that another plugin wrote. `None` when `object` is none: it has no
    /// `code` that is a number and no `msg` that is a string.
    pub(crate) fn from_object(object: &Map<String, Value>) -> Option<Error> {
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
    fn the_document_leaves_out_details_that_are_not_there() {
        let error = Error::new(code::TRY_AGAIN_LATER, "no offer on eth1");
        assert_eq!(
            error.to_value(Version::V0_4_0),
            json!({ "cniVersion": "0.4.0", "code": 11, "msg": "no offer on eth1" })
        );
        let error = error.details("sent 5 DISCOVER");
        assert_eq!(
            error.to_value(Version::V1_1_0)["details"],
            "sent 5 DISCOVER"
        );
        assert_eq!(error.to_string(), "no offer on eth1: sent 5 DISCOVER");
    }

    #[test]
    fn an_error_document_is_told_from_a_result() {
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
