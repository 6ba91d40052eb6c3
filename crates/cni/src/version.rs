//! Versions of the specification.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, code};

/// A version of the CNI specification. Versions are ordered: a later one compares greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is named after its version")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first. VERSION reports this list.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version, in which a plugin answers when the runtime's version is not known.
    pub const LATEST: Version = Version::V1_1_0;

    /// The version as it is written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Whether a result of this version must have an IP address.
    ///
    /// Whether results list interfaces, addresses and routes. Those of 0.1.0 and 0.2.0 have at most
    /// one address of each family, in `ip4` and `ip6`, and no interfaces.
    pub(crate) fn has_lists(self) -> bool {
        self > Version::V0_2_0
    }

    /// Reads the `cniVersion` field of a configuration. Like libcni, takes an empty one for 0.1.0.
    pub(crate) fn from_field(text: &str) -> Result<Version, Error> {
        if text.is_empty() {
            Ok(Version::V0_1_0)
        } else {
            text.parse()
        }
    }

    /// All versions, separated by commas, for messages.
    pub(crate) fn list() -> String {
        Version::ALL.map(Version::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Version, Error> {
        let found = Version::ALL.into_iter().find(|v| v.as_str() == text);
        found.ok_or_else(|| {
            Error::new(
                code::INCOMPATIBLE_VERSION,
                format!("unsupported cniVersion {text:?}"),
            )
            .details(format!("supported versions: {}", Version::list()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order_and_survive_writing_and_parsing() {
        for pair in Version::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn an_empty_version_means_0_1_0_and_an_unknown_version_is_refused_by_name() {
        assert_eq!(Version::from_field(""), Ok(Version::V0_1_0));
        let error = Version::from_field("1.2.0").unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(error.msg.contains("\"1.2.0\""), "{error}");
        assert!(error.details.contains("0.3.1, 0.4.0"), "{error}");
    }
}
