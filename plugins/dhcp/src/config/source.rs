//! Where keys are from, as errors name it.

use std::fmt::Display;
use std::path::Path;

use cni::{Error, code};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where keys are from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// The `ipam` section that the caller passes.
    Ipam,
    /// The network's file.
    File(&'a Path),
}

impl Source<'_> {
    /// Decodes an object with keys.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the source and the key.
    pub(super) fn decode<T: DeserializeOwned>(
        self,
        object: &Map<String, Value>,
    ) -> Result<T, Error> {
        match self {
            Source::Ipam => cni::go::decode_under("ipam", object),
            Source::File(path) => cni::go::decode_file(path, object),
        }
    }

    /// The error for an invalid key.
    pub(super) fn invalid(self, key: impl Display, problem: impl Display) -> Error {
        let key = self.name(key);
        let what = format!("invalid network configuration: {key}: {problem}");
        Error::new(code::INVALID_NETWORK_CONFIG, what)
    }

    /// A key with its source.
    pub(super) fn name(self, key: impl Display) -> String {
        match self {
            Source::Ipam => format!("ipam.{key}"),
            Source::File(path) => format!("{}: {key}", path.display()),
        }
    }
}
