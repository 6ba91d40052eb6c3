//! One invocation, read and validated.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    Args, Attachment, Env, Error, KnownArgs, NetworkConfig, Verb, args, code, config, validate,
};

/// The most that is read from stdin. A configuration is a few kilobytes; GC's list of attachments
/// has some 120 bytes for each, so this is room for over thirty thousand.
pub const MAX_STDIN: usize = 4 << 20;

/// Everything that one invocation was told, validated for its verb. `Verb::Version` never becomes a
/// request.
#[derive(Clone, Debug)]
pub struct Request {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID, the network's name and CNI_IFNAME; `None` for GC and STATUS, which are about
    /// no attachment. See [`Request::attachment`].
    pub attachment: Option<Attachment>,
    /// CNI_NETNS; `None` when a DEL has none any more. Whether it is a namespace is for the plugin
    /// to see.
    pub netns: Option<PathBuf>,
    /// CNI_NETNS_OVERRIDE: the caller insists that CNI_NETNS may be the plugin's own namespace.
    pub netns_override: bool,
    /// CNI_ARGS.
    pub args: Args,
    /// CNI_PATH without empty and repeated entries.
    pub path: Vec<PathBuf>,
    /// The network configuration from stdin.
    pub config: NetworkConfig,
    /// For GC: the attachments to keep. `None` when the runtime has not said, and then nothing may
    /// be removed.
    pub valid_attachments: Option<BTreeSet<Attachment>>,
    /// TRACEPARENT (W3C Trace Context): names the caller's span, to be put into logs.
    pub traceparent: Option<String>,
    /// What was wrong but not worth failing for; [`crate::run`] puts it on stderr.
    pub warnings: Vec<String>,
    /// The whole environment, for a delegate.
    pub env: Env,
    /// stdin byte for byte, for a delegate.
    pub stdin: Vec<u8>,
}

impl Request {
    /// Validates environment and stdin for the verb that CNI_COMMAND names.
    ///
    /// # Errors
    /// [`code::INVALID_ENVIRONMENT`] naming every variable that is missing, or else every one that
    /// is invalid; [`code::DECODING_FAILURE`] for stdin that is no JSON object, with line and
    /// column; [`code::INCOMPATIBLE_VERSION`] and [`code::INVALID_NETWORK_CONFIG`] for what is in
    /// it.
    pub fn parse(env: &Env, stdin: &[u8], known_args: KnownArgs) -> Result<Request, Error> {
        let variables = Variables::read(env)?;
        let raw = parse_object(stdin)?;
        let verb = variables.verb;
        if matches!(verb, Verb::Add | Verb::Check) {
            // Not for DEL: what an ADD of another version of this plugin let through must not block
            // the way out.
            variables.args.check(known_args)?;
        }
        let (config, warnings) = NetworkConfig::parse(raw, verb)?;
        let valid_attachments = match verb {
            Verb::Gc => config::valid_attachments(&config.raw, &config.name)?,
            _ => None,
        };
        let attachment = variables.attachment(&config.name)?;
        Ok(Request {
            verb,
            attachment,
            netns: env.get("CNI_NETNS").map(PathBuf::from),
            netns_override: env
                .get("CNI_NETNS_OVERRIDE")
                .and_then(OsStr::to_str)
                .and_then(args::boolean)
                == Some(true),
            args: variables.args,
            path: search_path(env),
            config,
            valid_attachments,
            traceparent: traceparent(env),
            warnings,
            env: env.clone(),
            stdin: stdin.to_vec(),
        })
    }

    /// The attachment that ADD, CHECK or DEL is about.
    ///
    /// # Errors
    /// [`code::INTERNAL`] for GC and STATUS, which are about none.
    pub fn attachment(&self) -> Result<&Attachment, Error> {
        self.attachment.as_ref().ok_or_else(|| {
            Error::new(
                code::INTERNAL,
                format!("{} is about no attachment", self.verb),
            )
        })
    }
}

/// The JSON object on stdin.
pub(crate) fn parse_object(stdin: &[u8]) -> Result<Map<String, Value>, Error> {
    let failure = |msg: String| Error::new(code::DECODING_FAILURE, msg);
    if stdin.trim_ascii().is_empty() {
        return Err(failure("no network configuration on stdin".to_owned()));
    }
    match serde_json::from_slice(stdin) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(failure(
            "the network configuration on stdin is not a JSON object".to_owned(),
        )),
        // serde_json's text ends in "at line 3 column 14".
        Err(error) => Err(failure(format!(
            "the network configuration on stdin is not valid JSON: {error}"
        ))),
    }
}

/// The variables that are text, validated.
struct Variables {
    verb: Verb,
    container_id: String,
    ifname: String,
    args: Args,
}

impl Variables {
    fn read(env: &Env) -> Result<Variables, Error> {
        let invalid = |msg: String| Error::new(code::INVALID_ENVIRONMENT, msg);
        if env.get("CNI_COMMAND").is_none() {
            return Err(invalid("missing: CNI_COMMAND".to_owned()));
        }
        let verb: Verb = text(env, "CNI_COMMAND")
            .map_err(|what| invalid(format!("CNI_COMMAND {what}")))?
            .parse()?;
        let required = required(verb);
        let missing: Vec<&str> = required
            .iter()
            .copied()
            .filter(|name| env.get(name).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(invalid(format!(
                "missing for {verb}: {}",
                missing.join(", ")
            )));
        }

        let mut wrong = Vec::new();
        let mut name = |name: &str, validate: fn(&str) -> Result<(), String>| {
            if !required.contains(&name) {
                return String::new(); // A verb that needs no container does not care what this holds.
            }
            let value = text(env, name).and_then(|value| validate(&value).map(|()| value));
            value.unwrap_or_else(|what| {
                wrong.push(format!("{name} {what}"));
                String::new()
            })
        };
        let container_id = name("CNI_CONTAINERID", validate::identifier);
        let ifname = name("CNI_IFNAME", validate::interface_name);
        if !wrong.is_empty() {
            return Err(invalid(format!("invalid: {}", wrong.join("; "))));
        }
        let args = text(env, "CNI_ARGS").map_err(|what| invalid(format!("CNI_ARGS {what}")))?;
        Ok(Variables {
            verb,
            container_id,
            ifname,
            args: Args::parse(&args)?,
        })
    }

    /// The attachment that the variables and the network's name make, where the verb is about one.
    fn attachment(&self, network: &str) -> Result<Option<Attachment>, Error> {
        if !required(self.verb).contains(&"CNI_CONTAINERID") {
            return Ok(None);
        }
        Attachment::new(&self.container_id, network, &self.ifname)
            .map(Some)
            .map_err(|invalid| Error::new(code::INVALID_ENVIRONMENT, invalid.to_string()))
    }
}

/// The variables that a verb cannot do without (spec §2). CNI_PATH is not among them, not even for
/// GC where the specification has it: only delegation needs it, and says so when it comes to that.
fn required(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Add | Verb::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
        Verb::Gc | Verb::Status | Verb::Version => &[],
    }
}

fn text(env: &Env, name: &str) -> Result<String, String> {
    let value = env.get(name).unwrap_or_default();
    value
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{value:?} is not UTF-8"))
}

/// Multus repeats folders in CNI_PATH. An empty entry would mean the working directory, wherever
/// that is.
fn search_path(env: &Env) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in std::env::split_paths(env.get("CNI_PATH").unwrap_or_default()) {
        if !folder.as_os_str().is_empty() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Kept when it looks like a header of Trace Context: it goes into logs, where not just anything
/// should go.
fn traceparent(env: &Env) -> Option<String> {
    let text = env.get("TRACEPARENT")?.to_str()?;
    let plausible = text.len() <= 256
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    plausible.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
