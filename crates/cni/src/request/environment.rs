//! The environment of an invocation, and the variables that the specification defines (§2).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::error::{Error, code};
use crate::request::args::{self, Args};
use crate::request::attachment::Attachment;
use crate::request::validate;
use crate::request::verb::Verb;

/// All environment variables of an invocation, including those that CNI does not define: a delegate
/// gets the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// The environment of this process.
    pub(crate) fn of_process() -> Env {
        std::env::vars_os().collect()
    }

    /// The value of a variable. An empty one counts as absent, because runtimes clear a variable by
    /// emptying it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// The same environment with another value of a variable.
    pub(crate) fn with(&self, name: &str, value: &str) -> Env {
        let mut env = self.clone();
        env.0.insert(name.into(), value.into());
        env
    }

    /// Every variable with its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
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

/// The `CNI_*` variables and TRACEPARENT, validated for the verb that CNI_COMMAND names.
pub(super) struct Variables {
    pub(super) verb: Verb,
    /// Empty for a verb that is not about an attachment; so is `ifname`.
    container_id: String,
    ifname: String,
    pub(super) args: Args,
    pub(super) netns: Option<PathBuf>,
    pub(super) netns_override: bool,
    pub(super) path: Vec<PathBuf>,
    pub(super) traceparent: Option<String>,
    /// What is wrong but does not keep the verb from being served.
    pub(super) warnings: Vec<String>,
}

impl Variables {
    /// Reads and validates the variables. An error names every variable that is missing, or else
    /// every one that is invalid.
    pub(super) fn read(env: &Env) -> Result<Variables, Error> {
        if env.get("CNI_COMMAND").is_none() {
            return Err(invalid("missing: CNI_COMMAND".to_owned()));
        }
        let verb: Verb = text(env, "CNI_COMMAND")
            .map_err(|problem| invalid(format!("CNI_COMMAND {problem}")))?
            .parse()?;
        require(env, verb)?;
        let (container_id, ifname) = names(env, verb)?;
        let (args, problem) = arguments(env);
        let warnings = match problem {
            // What ADD was asked for must not keep the container from being removed.
            Some(problem) if verb != Verb::Del => return Err(invalid(problem)),
            problem => problem.into_iter().collect(),
        };
        let netns_override = env.get("CNI_NETNS_OVERRIDE").and_then(OsStr::to_str);
        Ok(Variables {
            verb,
            container_id,
            ifname,
            args,
            netns: env.get("CNI_NETNS").map(PathBuf::from),
            netns_override: netns_override.and_then(args::boolean) == Some(true),
            path: search_path(env),
            traceparent: traceparent(env),
            warnings,
        })
    }

    /// The attachment to `network` that the verb is about; `None` if it is not about one.
    pub(super) fn attachment(&self, network: &str) -> Result<Option<Attachment>, Error> {
        if !self.verb.is_about_attachment() {
            return Ok(None);
        }
        Attachment::new(&self.container_id, network, &self.ifname)
            .map(Some)
            .map_err(|problem| invalid(problem.to_string()))
    }
}

/// Fails if a variable that the verb requires is missing.
fn require(env: &Env, verb: Verb) -> Result<(), Error> {
    let absent = required(verb)
        .iter()
        .copied()
        .filter(|name| env.get(name).is_none());
    let missing: Vec<&str> = absent.collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "missing for {verb}: {}",
        missing.join(", ")
    )))
}

/// The variables that a verb requires (spec §2).
///
/// The specification requires CNI_PATH for GC. This library does not, because only delegation needs
/// it, and fails without it for any verb.
fn required(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Add | Verb::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
        Verb::Gc | Verb::Status | Verb::Version => &[],
    }
}

/// Validates CNI_CONTAINERID and CNI_IFNAME. A verb that is not about an attachment ignores what
/// they contain.
fn names(env: &Env, verb: Verb) -> Result<(String, String), Error> {
    if !verb.is_about_attachment() {
        return Ok(Default::default());
    }
    let mut problems = Vec::new();
    let mut read = |name: &str, validate: fn(&str) -> Result<(), String>| {
        let value = text(env, name).and_then(|value| validate(&value).map(|()| value));
        value.unwrap_or_else(|problem| {
            problems.push(format!("{name} {problem}"));
            String::new()
        })
    };
    let container_id = read("CNI_CONTAINERID", validate::identifier);
    let ifname = read("CNI_IFNAME", validate::interface_name);
    if problems.is_empty() {
        Ok((container_id, ifname))
    } else {
        Err(invalid(format!("invalid: {}", problems.join("; "))))
    }
}

/// The pairs in CNI_ARGS that can be read, and what is wrong with the others.
fn arguments(env: &Env) -> (Args, Option<String>) {
    match text(env, "CNI_ARGS") {
        Ok(text) => {
            let (args, problem) = Args::parse(&text);
            (
                args,
                problem.map(|problem| format!("invalid CNI_ARGS: {problem}")),
            )
        }
        Err(problem) => {
            let text = env.get("CNI_ARGS").unwrap_or_default().to_string_lossy();
            (Args::parse(&text).0, Some(format!("CNI_ARGS {problem}")))
        }
    }
}

fn text(env: &Env, name: &str) -> Result<String, String> {
    let value = env.get(name).unwrap_or_default();
    value
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{value:?} is not UTF-8"))
}

/// The folders of CNI_PATH. Repeated ones, as Multus writes them, and empty ones, which would mean
/// the working directory, are left out.
fn search_path(env: &Env) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in std::env::split_paths(env.get("CNI_PATH").unwrap_or_default()) {
        if !folder.as_os_str().is_empty() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// TRACEPARENT, if it looks like a header of W3C Trace Context. Plugins write it to their logs,
/// which must not take arbitrary text.
fn traceparent(env: &Env) -> Option<String> {
    /// Version 00 has 55 characters; later versions may be longer.
    const MAX_LEN: usize = 256;
    let text = env.get("TRACEPARENT")?.to_str()?;
    let is_plausible = text.len() <= MAX_LEN
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_plausible.then(|| text.to_owned())
}

fn invalid(msg: String) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, msg)
}
