//! The environment of an invocation, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

use crate::{Error, Version, code};

/// Environment variables, all of them: a delegate gets the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Env {
        std::env::vars_os().collect()
    }

    /// The value of a variable. One that is empty counts as absent: runtimes clear a variable by
    /// emptying it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// Every variable with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Env {
        Env(variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }
}

/// What a runtime can ask of a plugin: CNI_COMMAND (spec §2 "CNI operations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a container to the network.
    Add,
    /// Verify that an attachment is as ADD left it.
    Check,
    /// Detach a container from the network.
    Del,
    /// Remove whatever belongs to no valid attachment.
    Gc,
    /// Say whether ADD could be served.
    Status,
    /// Say which versions are supported.
    Version,
}

impl Verb {
    const ALL: [Verb; 6] = [
        Verb::Add,
        Verb::Check,
        Verb::Del,
        Verb::Gc,
        Verb::Status,
        Verb::Version,
    ];

    /// As it is written in CNI_COMMAND.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    /// The version of the specification that introduced it.
    pub const fn since(self) -> Version {
        match self {
            Verb::Add | Verb::Del => Version::V0_1_0,
            Verb::Version => Version::V0_2_0,
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Verb, Error> {
        Verb::ALL
            .into_iter()
            .find(|verb| verb.as_str() == text)
            .ok_or_else(|| {
                Error::new(
                    code::INVALID_ENVIRONMENT,
                    format!("unknown CNI_COMMAND {text:?}"),
                )
                .details(format!(
                    "known commands: {}",
                    Verb::ALL.map(Verb::as_str).join(", ")
                ))
            })
    }
}
