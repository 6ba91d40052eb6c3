//! What a plugin is.

use crate::{CniResult, Error, KnownArgs, Request, Version};

/// The operations of one CNI plugin. Each gets a [`Request`] that is valid for its verb; what it
/// returns is all that the runtime sees. stdout belongs to [`crate::run`].
pub trait Plugin {
    /// What this plugin is, for people and for the validation of CNI_ARGS.
    fn about(&self) -> About;

    /// Attaches the container. On failure nothing may be left behind.
    ///
    /// # Errors
    /// Whatever kept the attachment from being made.
    fn add(&self, request: &Request) -> Result<CniResult, Error>;

    /// The result of [`Plugin::add`] is on stdout, and nothing can make the attachment fail any
    /// more: a plugin that has marked it as unfinished, so that it can tell what a crash has left
    /// behind, takes the mark away.
    fn on_committed(&self, _request: &Request) {}

    /// Verifies that the attachment is as ADD left it (`request.config.prev_result` is there).
    ///
    /// # Errors
    /// The first difference found.
    fn check(&self, request: &Request) -> Result<(), Error>;

    /// Detaches the container. What is already gone is no error; CNI_NETNS and `prevResult` may be
    /// absent.
    ///
    /// # Errors
    /// Only for what is still there and could not be removed.
    fn del(&self, request: &Request) -> Result<(), Error>;

    /// Says whether ADD could be served now.
    ///
    /// # Errors
    /// [`crate::code::PLUGIN_NOT_AVAILABLE`] or [`crate::code::LIMITED_CONNECTIVITY`] with the
    /// reason.
    fn status(&self, request: &Request) -> Result<(), Error>;

    /// Removes what belongs to this network and to none of `request.valid_attachments`; removes
    /// nothing when that is `None`. Goes on after errors.
    ///
    /// # Errors
    /// What could not be removed.
    fn gc(&self, request: &Request) -> Result<(), Error>;
}

/// How a plugin introduces itself to a person who runs it by hand.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The executable's name, which is the `type` in a configuration.
    pub name: &'static str,
    /// The plugin's own version.
    pub version: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Further lines for `--help`: commands or keys of its own. Empty for none.
    pub usage: &'static str,
    /// The CNI_ARGS it understands.
    pub known_args: KnownArgs,
}

impl About {
    /// `name version`, as `--version` prints it.
    pub(crate) fn version_line(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// All of it, as `--help` prints it and as somebody sees it who runs the plugin without CNI
    /// variables.
    pub(crate) fn text(&self) -> String {
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
             This is a CNI plugin: a container runtime runs it, with CNI_COMMAND and its other parameters in the\n\
             environment and the network configuration on stdin. The answer is one JSON document on stdout.\n\
             Try it: echo '{{\"cniVersion\":\"{latest}\"}}' | CNI_COMMAND=VERSION {name}\n\
             {gap}{usage}",
            latest = Version::LATEST,
        )
    }
}
