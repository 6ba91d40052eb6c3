//! The trait that a plugin implements, and the description that it gives of itself.

use crate::error::Error;
use crate::request::{KnownArgs, Request};
use crate::result::CniResult;
use crate::version::Version;

/// A CNI plugin: one method for each verb.
///
/// Each method gets a [`Request`] that is valid for its verb. [`run`](crate::run()) writes what it
/// returns to stdout, so a plugin must not write anything there itself.
pub trait Plugin {
    /// Describes the plugin, for people and for the validation of CNI_ARGS.
    fn about(&self) -> About;

    /// Adds to a request what does not come from the runtime ([`Request::built_in`],
    /// [`Request::assigned`]).
    fn complete(&self, _request: &mut Request) {}

    /// Attaches the container. If it fails, it must remove everything that it has created.
    ///
    /// # Errors
    /// If the container could not be attached.
    fn add(&self, request: &Request) -> Result<CniResult, Error>;

    /// Called when the result of [`Plugin::add`] is on stdout, so that the attachment cannot fail
    /// any more.
    ///
    /// A plugin that marks attachments as unfinished, to recognise what a crash leaves behind,
    /// removes the mark here. If the result could not be written, [`Plugin::roll_back`] is called
    /// instead.
    fn on_committed(&self, _request: &Request) {}

    /// Undoes what [`Plugin::add`] has just done, because its result cannot be reported: the
    /// runtime may not call DEL for it.
    ///
    /// The runtime may also have called DEL already, and even another ADD. A plugin that knows what
    /// is its own should remove only that. By default this is [`Plugin::del`].
    ///
    /// # Errors
    /// If something still exists and could not be removed. Nobody is told: the reason for rolling
    /// back is the error to report.
    fn roll_back(&self, request: &Request) -> Result<(), Error> {
        self.del(request)
    }

    /// Verifies that the attachment is as ADD left it. `request.config.prev_result` has ADD's
    /// result.
    ///
    /// # Errors
    /// If something has changed.
    fn check(&self, request: &Request) -> Result<(), Error>;

    /// Detaches the container. CNI_NETNS and `prevResult` may be absent, and anything that is
    /// already gone is not an error.
    ///
    /// # Errors
    /// If something still exists and could not be removed.
    fn del(&self, request: &Request) -> Result<(), Error>;

    /// Says whether the plugin can serve ADD now.
    ///
    /// # Errors
    /// [`code::PLUGIN_NOT_AVAILABLE`](crate::code::PLUGIN_NOT_AVAILABLE) or
    /// [`code::LIMITED_CONNECTIVITY`](crate::code::LIMITED_CONNECTIVITY), with the reason.
    fn status(&self, request: &Request) -> Result<(), Error>;

    /// Removes everything that belongs to this network but to none of `request.valid_attachments`.
    /// If that is `None`, removes nothing. An error must not keep it from removing the rest.
    ///
    /// # Errors
    /// If something could not be removed.
    fn gc(&self, request: &Request) -> Result<(), Error>;
}

/// The description of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The name of the executable, which configurations give as `type`.
    pub name: &'static str,
    /// The plugin's own version.
    pub version: &'static str,
    /// What the plugin does, in one line.
    pub summary: &'static str,
    /// More text for `--help`, such as the plugin's commands or keys. May be empty; otherwise it
    /// ends in a newline.
    pub usage: &'static str,
    /// The keys in CNI_ARGS that the plugin knows.
    pub known_args: KnownArgs,
}

impl About {
    /// The name and version of the plugin, as `--version` prints them.
    pub(crate) fn version_line(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The text that `--help` prints, as does the plugin if it is run by hand without arguments.
    pub(crate) fn help(&self) -> String {
        let About {
            name,
            version,
            summary,
            usage,
            ..
        } = self;
        let versions = Version::list();
        let gap = if usage.is_empty() { "" } else { "\n" };
        format!(
            "{name} {version}: {summary}\n\
             CNI protocol versions supported: {versions}\n\
             \n\
             This is a CNI plugin. A container runtime runs it, with CNI_COMMAND and other\n\
             parameters in the environment and the network configuration on stdin. The answer is\n\
             one JSON document on stdout.\n\
             Try it: echo '{{\"cniVersion\":\"{latest}\"}}' | CNI_COMMAND=VERSION {name}\n\
             {gap}{usage}",
            latest = Version::LATEST,
        )
    }
}
