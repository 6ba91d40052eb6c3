//! One invocation: its environment and stdin, read and validated.
//!
//! [`Request::parse`] combines what the modules below read: the variables of the environment,
//! CNI_ARGS, and the network configuration on stdin.

mod args;
mod attachment;
mod built_in;
mod config;
mod conventions;
mod environment;
mod stdin;
mod validate;
mod verb;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, code};
use crate::result::CniResult;

pub use args::{Args, KnownArgs};
pub use attachment::{Attachment, InvalidAttachment};
pub use built_in::{Answer, BuiltIn};
pub use config::NetworkConfig;
pub use environment::Env;
pub(crate) use stdin::{MAX_STDIN, parse_object, read_bounded};
pub use verb::Verb;

use environment::Variables;

/// What the runtime asks for in one invocation, validated for its verb. VERSION never becomes a
/// request, because [`run`](crate::run()) answers it without the plugin.
#[derive(Clone, Debug)]
pub struct Request {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID, the network's name and CNI_IFNAME. `None` for GC and STATUS, which are not
    /// about one attachment; see [`Request::attachment`].
    pub attachment: Option<Attachment>,
    /// CNI_NETNS. A DEL has none if the namespace is gone. The path may lead to anything; the
    /// plugin must check that it is a network namespace.
    pub netns: Option<PathBuf>,
    /// CNI_NETNS_OVERRIDE: whether CNI_NETNS may be the namespace that the plugin runs in.
    pub netns_override: bool,
    /// CNI_ARGS.
    pub args: Args,
    /// The network configuration on stdin.
    pub config: NetworkConfig,
    /// For GC, the attachments to keep. If it is `None`, the runtime gave no list, and the plugin
    /// must not remove anything.
    pub valid_attachments: Option<BTreeSet<Attachment>>,
    /// TRACEPARENT (W3C Trace Context), which identifies the caller's span. A plugin may write it
    /// to its logs.
    pub traceparent: Option<String>,
    /// The folders of CNI_PATH, without empty and repeated ones.
    pub(crate) path: Vec<PathBuf>,
    /// The delegates that are part of this program. There are none until the plugin says so.
    pub built_in: &'static [BuiltIn],
    /// The addresses that the caller has assigned already. CNI has no such thing, so this is `None`
    /// until a caller of another kind sets it. [`Ipam`](crate::delegate::Ipam) then answers with
    /// this result, and runs no program.
    pub assigned: Option<CniResult>,
    /// What is wrong with the request but does not keep it from being served.
    pub(crate) warnings: Vec<String>,
    /// The whole environment, for a delegate.
    pub(crate) env: Env,
    /// stdin byte for byte, for a delegate.
    pub(crate) stdin: Vec<u8>,
}

impl Request {
    /// Reads environment and stdin, and validates them for the verb that CNI_COMMAND names.
    ///
    /// # Errors
    /// - [`code::INVALID_ENVIRONMENT`], naming every variable that is missing, or else every one
    ///   that is invalid.
    /// - [`code::DECODING_FAILURE`] if stdin is not a JSON object, with line and column.
    /// - [`code::INCOMPATIBLE_VERSION`] or [`code::INVALID_NETWORK_CONFIG`] if the configuration is
    ///   invalid.
    pub fn parse(env: &Env, stdin: &[u8], known_args: KnownArgs) -> Result<Request, Error> {
        let variables = Variables::read(env)?;
        let raw = parse_object(stdin)?;
        let verb = variables.verb;
        if matches!(verb, Verb::Add | Verb::Check) {
            // DEL must succeed for an attachment whose ADD another version of the plugin accepted.
            variables.args.check(known_args)?;
        }
        let (config, more_warnings) = NetworkConfig::parse(raw, verb)?;
        let valid_attachments = match verb {
            Verb::Gc => config::valid_attachments(&config.raw, &config.name)?,
            _ => None,
        };
        let attachment = variables.attachment(&config.name)?;
        Ok(Request {
            verb,
            attachment,
            netns: variables.netns,
            netns_override: variables.netns_override,
            args: variables.args,
            path: variables.path,
            config,
            valid_attachments,
            traceparent: variables.traceparent,
            assigned: None,
            warnings: [variables.warnings, more_warnings].concat(),
            built_in: &[],
            env: env.clone(),
            stdin: stdin.to_vec(),
        })
    }

    /// The attachment that ADD, CHECK or DEL is about.
    ///
    /// # Errors
    /// [`code::INTERNAL`] for GC and STATUS, which are not about one attachment.
    pub fn attachment(&self) -> Result<&Attachment, Error> {
        self.attachment.as_ref().ok_or_else(|| {
            Error::new(
                code::INTERNAL,
                format!("{} is not about one attachment", self.verb),
            )
        })
    }
}

#[cfg(test)]
mod tests;
