//! A value of a JSON document that is not what its field needs, and where it is.

use std::fmt;
use std::path::Path;

use serde::de::{self, Expected, Unexpected};
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

    /// Adds the value, where the standard library's words for what is wrong with it do not have it.
    pub(crate) fn about(self, value: &Value) -> Invalid {
        match self.problem.as_str() {
            "invalid IPv4 address syntax" if self.path.is_empty() => {
                Invalid::unexpected("an IPv4 address", value)
            }
            _ => self,
        }
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

    /// Adds the file that the value is in, outside of the network configuration.
    pub(crate) fn in_file(self, file: &Path) -> Invalid {
        Invalid::new(format!("{}: {self}", file.display()))
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

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Invalid {
        let (expected, found) = (expected_in_words(&expected), found_in_words(found));
        Invalid::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Invalid {
        Invalid::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Invalid {
        let expected: Vec<String> = expected.iter().map(|name| format!("{name:?}")).collect();
        Invalid::new(format!("{found:?} is none of {}", expected.join(", ")))
    }

    fn missing_field(key: &'static str) -> Invalid {
        Invalid::missing(key)
    }
}

/// The text of an error of `serde_json`, with the words of JSON for types of Rust's: `invalid type:
/// a list, expected an object at line 1 column 7`.
pub fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let Some((found, expected)) = text.split_once(", expected ") else {
        return text;
    };
    let found = found
        .replace("invalid type: sequence", "invalid type: a list")
        .replace("invalid type: map", "invalid type: an object");
    let (expected, place) = match expected.rfind(" at line ") {
        Some(place) => expected.split_at(place),
        None => (expected, ""),
    };
    format!("{found}, expected {}{place}", expected_in_words(&expected))
}

/// What a type of Rust's is to somebody who writes JSON.
fn expected_in_words(expected: &dyn fmt::Display) -> String {
    let text = expected.to_string();
    let number = |max: u64| format!("a number from 0 to {max}");
    match text.as_str() {
        "u8" => number(u8::MAX.into()),
        "u16" => number(u16::MAX.into()),
        "u32" => number(u32::MAX.into()),
        "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        _ if text.starts_with("struct ") => "an object".to_owned(),
        _ => text,
    }
}

fn found_in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Empty {}

    fn problem<T: DeserializeOwned + fmt::Debug>() -> String {
        let found = de::value::BoolDeserializer::<Invalid>::new(true);
        T::deserialize(found).unwrap_err().to_string()
    }

    #[test]
    fn types_have_the_words_of_json() {
        for (problem, expected) in [
            (problem::<u8>(), "a number from 0 to 255"),
            (problem::<u16>(), "a number from 0 to 65535"),
            (problem::<u32>(), "a number from 0 to 4294967295"),
            (problem::<u64>(), "a whole number"),
            (problem::<i32>(), "a whole number"),
            (problem::<f64>(), "a number"),
            (problem::<Vec<u8>>(), "a list"),
            (problem::<BTreeMap<String, u8>>(), "an object"),
            (problem::<Empty>(), "an object"),
            (problem::<String>(), "a string"),
        ] {
            assert_eq!(problem, format!("expected {expected}, found true"));
        }
    }

    #[test]
    fn a_document_that_cannot_be_read_is_described_in_the_words_of_json() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "it is never read")]
        struct Small {
            number: u8,
        }
        let problem = |text: &str| json_problem(&serde_json::from_str::<Small>(text).unwrap_err());
        for (text, expected) in [
            (
                "7",
                "invalid type: integer `7`, expected an object at line 1 column 1",
            ),
            (
                r#"{"number":[]}"#,
                "invalid type: a list, expected a number from 0 to 255 at line 1 column 10",
            ),
            (
                r#"{"number":{}}"#,
                "invalid type: an object, expected a number from 0 to 255 at line 1 column 10",
            ),
            ("{}", "missing field `number` at line 1 column 2"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            assert_eq!(problem(text), expected);
        }
    }

    #[test]
    fn the_path_leads_to_the_value() {
        let invalid = Invalid::unexpected("a string", &json!(1))
            .under("address")
            .at(0)
            .under("ips");
        assert_eq!(
            invalid.to_string(),
            "ips[0].address: expected a string, found 1"
        );
    }
}
