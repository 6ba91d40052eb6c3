//! The operations that a runtime can ask for (spec §2, "CNI operations").

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, code};
use crate::version::Version;

/// What the runtime asks of the plugin, as CNI_COMMAND names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a container to the network.
    Add,
    /// Verify that an attachment is as ADD left it.
    Check,
    /// Detach a container from the network.
    Del,
    /// Remove everything that belongs to no valid attachment.
    Gc,
    /// Say whether the plugin can serve ADD.
    Status,
    /// Say which versions of the specification the plugin supports.
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

    /// The verb as it is written in CNI_COMMAND.
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

    /// The version of the specification that introduced the verb.
    pub(crate) const fn since(self) -> Version {
        match self {
            Verb::Add | Verb::Del => Version::V0_1_0,
            Verb::Version => Version::V0_2_0,
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        }
    }

    /// Whether the verb is about one attachment. GC and STATUS are about a network, and VERSION is
    /// about the plugin.
    pub(crate) const fn is_about_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Check | Verb::Del)
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
        let unknown = || {
            let known = Verb::ALL.map(Verb::as_str).join(", ");
            Error::new(
                code::INVALID_ENVIRONMENT,
                format!("unknown CNI_COMMAND {text:?}"),
            )
            .details(format!("known commands: {known}"))
        };
        let mut all = Verb::ALL.into_iter();
        all.find(|verb| verb.as_str() == text).ok_or_else(unknown)
    }
}
