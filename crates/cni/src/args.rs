//! CNI_ARGS: `KEY=value` pairs separated by semicolons, which CONVENTIONS.md deprecates and every
//! runtime sends.

use crate::{Error, code};

/// Which CNI_ARGS a plugin understands, beside `IgnoreUnknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownArgs {
    /// These keys. Any other is an error, unless `IgnoreUnknown` is set.
    Only(&'static [&'static str]),
    /// Every key may mean something to this plugin.
    Any,
}

/// The pairs of CNI_ARGS. Multus repeats keys; the last one counts, as in the Go plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Splits the text into its pairs. Empty parts, as a trailing semicolon leaves one, are
    /// skipped.
    ///
    /// # Errors
    /// [`code::INVALID_ENVIRONMENT`] for a part without `=`, or without a key.
    pub fn parse(text: &str) -> Result<Args, Error> {
        let mut pairs = Vec::new();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    pairs.push((key.to_owned(), value.to_owned()))
                }
                _ => {
                    return Err(Error::new(
                        code::INVALID_ENVIRONMENT,
                        format!("invalid CNI_ARGS: {part:?} is no KEY=value pair"),
                    ));
                }
            }
        }
        Ok(Args(pairs))
    }

    /// The value of a key; the last one when it is repeated. Keys are case-sensitive.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All pairs in the order they came, repeated ones included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that are not among the known ones, all of them in one message, unless
    /// `IgnoreUnknown` is set.
    pub(crate) fn check(&self, known: KnownArgs) -> Result<(), Error> {
        let ignore_unknown = self.ignore_unknown()?;
        let KnownArgs::Only(known) = known else {
            return Ok(());
        };
        if ignore_unknown {
            return Ok(());
        }
        let is_known = |key: &str| key == IGNORE_UNKNOWN || known.contains(&key);
        let mut unknown: Vec<&str> = self
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !is_known(key))
            .collect();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let known = if known.is_empty() {
            "no key".to_owned()
        } else {
            known.join(", ")
        };
        Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!("unknown key in CNI_ARGS: {}", unknown.join(", ")),
        )
        .details(format!(
            "this plugin knows {known}; IgnoreUnknown=1 in CNI_ARGS makes it ignore the others"
        )))
    }

    /// `IgnoreUnknown`, read as libcni does: 1, true, 0 or false, in any case of letters.
    fn ignore_unknown(&self) -> Result<bool, Error> {
        let Some(value) = self.get(IGNORE_UNKNOWN) else {
            return Ok(false);
        };
        boolean(value).ok_or_else(|| {
            Error::new(
                code::INVALID_ENVIRONMENT,
                format!("invalid CNI_ARGS: {IGNORE_UNKNOWN}={value} is neither true nor false"),
            )
        })
    }
}

const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// A boolean as CNI writes it in text.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC_ONLY: KnownArgs = KnownArgs::Only(&["MAC"]);

    #[test]
    fn the_last_of_repeated_keys_counts() {
        let args = Args::parse(
            "IgnoreUnknown=true;MAC=02:00:00:00:00:01;IgnoreUnknown=1;MAC=02:00:00:00:00:02",
        )
        .unwrap();
        assert_eq!(args.get("MAC"), Some("02:00:00:00:00:02"));
        assert_eq!(args.get("mac"), None);
        assert_eq!(args.iter().count(), 4);
    }

    #[test]
    fn a_value_may_be_empty_or_hold_an_equals_sign_and_a_trailing_semicolon_is_nothing() {
        let args = Args::parse("A=;B=x=y;").unwrap();
        assert_eq!((args.get("A"), args.get("B")), (Some(""), Some("x=y")));
        assert_eq!(Args::parse("").unwrap(), Args::default());
    }

    #[test]
    fn a_part_that_is_no_pair_is_refused() {
        for text in ["MAC", "A=1;MAC;B=2", "=x"] {
            let error = Args::parse(text).unwrap_err();
            assert_eq!(error.code, code::INVALID_ENVIRONMENT);
            assert!(error.msg.contains("CNI_ARGS"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_named_together_unless_they_are_to_be_ignored() {
        let check = |text, known| Args::parse(text).unwrap().check(known);
        let error = check("MAC=x;K8S_POD_NAME=p;FOO=1", MAC_ONLY).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        assert!(error.msg.ends_with("K8S_POD_NAME, FOO"), "{error}");
        check("MAC=x;FOO=1;IgnoreUnknown=TRUE", MAC_ONLY).unwrap();
        check("IgnoreUnknown=0;MAC=x", MAC_ONLY).unwrap();
        check("IgnoreUnknown=1;FOO=1;IgnoreUnknown=0", MAC_ONLY).unwrap_err();
        check("IgnoreUnknown=maybe", MAC_ONLY).unwrap_err();
        check("FOO=1", KnownArgs::Any).unwrap();
    }
}
