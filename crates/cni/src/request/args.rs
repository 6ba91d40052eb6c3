//! CNI_ARGS: `KEY=value` pairs separated by semicolons. CONVENTIONS.md deprecates them, but every
//! runtime sends them.

use crate::error::{Error, code};

/// The keys in CNI_ARGS that a plugin knows, in addition to `IgnoreUnknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownArgs {
    /// These keys. Any other is an error unless `IgnoreUnknown` is set.
    Only(&'static [&'static str]),
    /// Any key, because the plugin's configuration can refer to arbitrary ones.
    Any,
}

/// The pairs in CNI_ARGS. Multus repeats keys; as in the Go plugins, the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Splits the text into its pairs. Empty parts, such as the one after a trailing semicolon, are
    /// skipped. A part without `=` or without a key is left out, and the second value says which
    /// was the first.
    pub(super) fn parse(text: &str) -> (Args, Option<String>) {
        let (mut pairs, mut problem) = (Vec::new(), None);
        for part in text.split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    pairs.push((key.to_owned(), value.to_owned()));
                }
                _ => {
                    problem.get_or_insert_with(|| format!("{part:?} is not a KEY=value pair"));
                }
            }
        }
        (Args(pairs), problem)
    }

    /// The value of a key, or the last value of a repeated one. Keys are case-sensitive.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Fails if there are unknown keys, naming all of them, unless `IgnoreUnknown` is set.
    pub(super) fn check(&self, known: KnownArgs) -> Result<(), Error> {
        let ignore_unknown = self.ignore_unknown()?;
        let KnownArgs::Only(known) = known else {
            return Ok(());
        };
        if ignore_unknown {
            return Ok(());
        }
        let is_known = |key: &str| key == IGNORE_UNKNOWN || known.contains(&key);
        let keys = self.0.iter().map(|(key, _)| key.as_str());
        let mut unknown: Vec<&str> = keys.filter(|key| !is_known(key)).collect();
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

    /// The value of `IgnoreUnknown`. Like libcni, accepts 1, true, 0 and false in upper or lower
    /// case.
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

/// Reads a boolean as CNI writes it in variables.
pub(super) fn boolean(text: &str) -> Option<bool> {
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
    fn the_last_value_of_a_repeated_key_counts() {
        let args =
            valid("IgnoreUnknown=true;MAC=02:00:00:00:00:01;IgnoreUnknown=1;MAC=02:00:00:00:00:02");
        assert_eq!(args.get("MAC"), Some("02:00:00:00:00:02"));
        assert_eq!(args.get("mac"), None);
    }

    #[test]
    fn a_value_may_be_empty_or_contain_an_equals_sign_and_a_trailing_semicolon_is_ignored() {
        let args = valid("A=;B=x=y;");
        assert_eq!((args.get("A"), args.get("B")), (Some(""), Some("x=y")));
        assert_eq!(valid(""), Args::default());
    }

    #[test]
    fn a_part_that_is_not_a_key_value_pair_is_named_and_left_out() {
        for (text, part) in [("MAC", "MAC"), ("A=1;MAC;B=2;=x", "MAC"), ("=x", "=x")] {
            let (args, problem) = Args::parse(text);
            assert!(problem.is_some_and(|problem| problem.starts_with(&format!("{part:?}"))));
            assert_eq!(args.get("A").is_some(), text.contains("A=1"));
            assert_eq!(args.get("B").is_some(), text.contains("B=2"));
        }
    }

    fn valid(text: &str) -> Args {
        let (args, problem) = Args::parse(text);
        assert_eq!(problem, None);
        args
    }

    #[test]
    fn unknown_keys_are_refused_in_one_message_unless_ignore_unknown_is_set() {
        let check = |text: &str, known| valid(text).check(known);
        let error = check("MAC=x;K8S_POD_NAME=p;FOO=1", MAC_ONLY).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        assert!(error.msg.ends_with("K8S_POD_NAME, FOO"), "{error}");
        check("MAC=x;FOO=1;IgnoreUnknown=TRUE", MAC_ONLY).unwrap();
        for no in ["0", "false", "FALSE"] {
            check(&format!("IgnoreUnknown={no};MAC=x"), MAC_ONLY).unwrap();
            let error = check(&format!("IgnoreUnknown={no};FOO=1"), MAC_ONLY).unwrap_err();
            assert!(error.msg.ends_with("FOO"), "{error}");
        }
        check("IgnoreUnknown=1;FOO=1;IgnoreUnknown=0", MAC_ONLY).unwrap_err();
        check("IgnoreUnknown=maybe", MAC_ONLY).unwrap_err();
        check("FOO=1", KnownArgs::Any).unwrap();
    }
}
