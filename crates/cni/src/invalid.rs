//! A value of a JSON document that is not what its field needs, and where it is.

use std::fmt;

use serde::de;
use serde_json::Value;

use crate::error::{Error, code};

/// What is wrong with a value, and the path to its field: `ips[0].address: is missing`.
///
/// The function that finds the mistake knows only the value. Each caller on the way out adds the
/// step that it took to get there, with [`Invalid::under`] or [`Invalid::at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Innermost step first.
    path: Vec<String>,
    problem: String,
}

impl Invalid {
    pub(crate) fn new(problem: impl Into<String>) -> Invalid {
        Invalid {
            path: Vec::new(),
            problem: problem.into(),
        }
    }

    /// The value has another type than `expected`, which is a noun with its article.
    pub(crate) fn unexpected(expected: &str, found: &Value) -> Invalid {
        Invalid::new(format!("expected {expected}, found {found}"))
    }

    /// The field `key` has no value.
    pub(crate) fn missing(key: &str) -> Invalid {
        Invalid::new("is missing").under(key)
    }

    /// Adds the key of the object that the value is in.
    pub(crate) fn under(mut self, key: impl Into<String>) -> Invalid {
        self.path.push(key.into());
        self
    }

    /// Adds the index in the list that the value is in.
    pub(crate) fn at(self, index: usize) -> Invalid {
        self.under(format!("[{index}]"))
    }

    /// The error for a value of the network configuration.
    pub(crate) fn into_config_error(self) -> Error {
        Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!("invalid network configuration: {self}"),
        )
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.path.iter().rev().enumerate() {
            if i > 0 && !step.starts_with('[') {
                f.write_str(".")?;
            }
            f.write_str(step)?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        invalid.into_config_error()
    }
}

impl de::Error for Invalid {
    fn custom<T: fmt::Display>(problem: T) -> Invalid {
        Invalid::new(problem.to_string())
    }
}
