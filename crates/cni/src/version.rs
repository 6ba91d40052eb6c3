//! Versions of the specification.

use std::fmt;
use std::str::FromStr;

use crate::{Error, code};

/// A version of the CNI specification. They are ordered: a later one compares greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
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
    /// Every version, oldest first; what VERSION reports.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version: what is spoken when the runtime has not said which.
    pub const LATEST: Version = Version::V1_1_0;

    /// As it is written in `cniVersion`.
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

    /// Whether a result of this version must have an IP address. 0.1.0 and 0.2.0 have `ip4` and
    /// `ip6` and nothing else, so an L2-only attachment cannot be expressed in them: a plugin that
    /// will have no address asks this before it creates anything.
    pub fn requires_ip(self) -> bool {
        self <= Version::V0_2_0
    }

    /// Reads a `cniVersion` field, where empty means 0.1.0 (as libcni has it).
    pub(crate) fn of_field(text: &str) -> Result<Version, Error> {
        if text.is_empty() {
            Ok(Version::V0_1_0)
        } else {
            text.parse()
        }
    }

    /// All versions in one line of text, for people.
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
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| {
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
    fn every_version_is_read_as_it_is_written_and_they_are_in_order() {
        for pair in Version::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn an_empty_version_is_0_1_0_and_an_unknown_one_is_refused_by_name() {
        assert_eq!(Version::of_field(""), Ok(Version::V0_1_0));
        let error = Version::of_field("1.2.0").unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(error.msg.contains("\"1.2.0\""), "{error}");
        assert!(error.details.contains("0.3.1, 0.4.0"), "{error}");
    }
}
