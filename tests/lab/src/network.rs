//! A conflist and what libcni does with it: the plugins in order, each with its predecessor's
//! result; results cached between ADD and DEL.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::{
    Node, Result,
    plugin::{Call, CniError, DEBIANS_PLUGINS},
    suite,
};

/// One interface of one container.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`, if any.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`, empty for none.
    pub args: String,
    /// Capability arguments: of these a plugin gets in `runtimeConfig` what its `capabilities` ask
    /// for.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// `eth0` of a container whose ID is the node's name.
    pub fn new(container: &Node) -> Attachment {
        Attachment {
            container_id: container.name().to_owned(),
            netns: Some(container.path()),
            ifname: "eth0".to_owned(),
            args: String::new(),
            capabilities: Map::new(),
        }
    }
}

/// A network configuration list, as a runtime has loaded it.
#[derive(Debug)]
pub struct Network<'a> {
    host: &'a Node,
    conflist: Value,
    path: Vec<PathBuf>,
    cache: RefCell<BTreeMap<(String, String), Value>>,
}

impl<'a> Network<'a> {
    /// A network of the plugins under test, used from `host`. Debian's plugins come after them on
    /// the path.
    pub fn new(host: &'a Node, conflist: Value) -> Network<'a> {
        Network::with_path(
            host,
            conflist,
            vec![suite::plugin_dir().to_owned(), DEBIANS_PLUGINS.into()],
        )
    }

    /// Like [`Network::new`], with another `CNI_PATH`.
    pub fn with_path(host: &'a Node, conflist: Value, path: Vec<PathBuf>) -> Network<'a> {
        Network {
            host,
            conflist,
            path,
            cache: RefCell::default(),
        }
    }

    /// ADD of each plugin in order. Returns, and caches, the result of the last one.
    ///
    /// # Errors
    /// The error of the first plugin that fails ([`CniError`]). Like libcni this undoes nothing,
    /// which is left to the runtime's DEL.
    pub fn add(&self, attachment: &Attachment) -> Result<Value> {
        let mut result = None;
        for index in 0..self.plugins()?.len() {
            let document = self
                .prepare("ADD", index, attachment, result.as_ref())?
                .run(self.host)?
                .success()?;
            ensure!(document.is_object(), "an ADD succeeded without a result");
            result = Some(document);
        }
        let result = result.context("a conflist without plugins")?;
        self.cache
            .borrow_mut()
            .insert(key(attachment), result.clone());
        Ok(result)
    }

    /// CHECK of each plugin in order, with the cached result.
    ///
    /// # Errors
    /// The first plugin's that fails ([`CniError`]).
    pub fn check(&self, attachment: &Attachment) -> Result {
        let result = self.cached(attachment);
        for index in 0..self.plugins()?.len() {
            self.prepare("CHECK", index, attachment, result.as_ref())?
                .run(self.host)?
                .success()?;
        }
        Ok(())
    }

    /// DEL of each plugin in reverse order, with the cached result (from version 0.4.0); then the
    /// cache entry goes.
    ///
    /// # Errors
    /// The first plugin's that fails ([`CniError`]); the cache entry stays then, for the runtime to
    /// try again.
    pub fn del(&self, attachment: &Attachment) -> Result {
        let result = self
            .cached(attachment)
            .filter(|_| !matches!(self.version(), "" | "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1"));
        for index in (0..self.plugins()?.len()).rev() {
            self.prepare("DEL", index, attachment, result.as_ref())?
                .run(self.host)?
                .success()?;
        }
        self.cache.borrow_mut().remove(&key(attachment));
        Ok(())
    }

    /// STATUS of each plugin in order.
    ///
    /// # Errors
    /// The first plugin's that fails ([`CniError`]).
    pub fn status(&self) -> Result {
        for plugin in self.plugins()? {
            let config = self.plugin_config(plugin, None, &Map::new())?;
            self.of("STATUS", plugin)?
                .config(&config)
                .run(self.host)?
                .success()?;
        }
        Ok(())
    }

    /// GC of each plugin in order, telling it which attachments are still valid; unlike the other
    /// verbs it goes on after an error.
    ///
    /// # Errors
    /// The first plugin's that fails ([`CniError`]).
    pub fn gc(&self, valid: &[&Attachment]) -> Result {
        let valid: Vec<Value> = valid
            .iter()
            .map(|attachment| json!({"containerID": attachment.container_id, "ifname": attachment.ifname}))
            .collect();
        let mut first = Ok(());
        for plugin in self.plugins()? {
            let mut config = self.plugin_config(plugin, None, &Map::new())?;
            // libcni writes both: the specification's key and the one of its first release with GC.
            config["cni.dev/valid-attachments"] = valid.clone().into();
            config["cni.dev/attachments"] = valid.clone().into();
            let outcome = self
                .of("GC", plugin)?
                .config(&config)
                .run(self.host)?
                .success();
            first = first.and(outcome.map(|_| ()));
        }
        first
    }

    /// The result that ADD has left in the cache.
    pub fn cached(&self, attachment: &Attachment) -> Option<Value> {
        self.cache.borrow().get(&key(attachment)).cloned()
    }

    /// The call that this network makes for a verb and the plugin at `index`, for a test that wants
    /// to change it or to look at the outcome itself.
    ///
    /// # Errors
    /// When the conflist has no such plugin.
    pub fn prepare(
        &self,
        verb: &str,
        index: usize,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<Call> {
        let plugins = self.plugins()?;
        let plugin = plugins
            .get(index)
            .with_context(|| format!("a conflist without plugin {index}"))?;
        let config = self.plugin_config(plugin, result, &attachment.capabilities)?;
        let mut call = self
            .of(verb, plugin)?
            .container(&attachment.container_id)
            .env(
                "CNI_NETNS",
                &attachment
                    .netns
                    .as_ref()
                    .map_or(String::new(), |path| path.display().to_string()),
            )
            .ifname(&attachment.ifname)
            .config(&config);
        if !attachment.args.is_empty() {
            call = call.args(&attachment.args);
        }
        Ok(call)
    }

    fn plugins(&self) -> Result<&[Value]> {
        Ok(self.conflist["plugins"]
            .as_array()
            .context("a conflist has plugins")?)
    }

    fn version(&self) -> &str {
        self.conflist["cniVersion"].as_str().unwrap_or_default()
    }

    fn of(&self, verb: &str, plugin: &Value) -> Result<Call> {
        let kind = plugin["type"].as_str().context("a plugin has a type")?;
        let program = self
            .path
            .iter()
            .map(|dir| dir.join(kind))
            .find(|file| file.is_file());
        let program = program.with_context(|| format!("plugin {kind} in {:?}", self.path))?;
        let path: Vec<_> = self.path.iter().map(PathBuf::as_path).collect();
        Ok(Call::of(program, &path, verb))
    }

    /// One plugin's configuration, with what libcni adds to it.
    fn plugin_config(
        &self,
        plugin: &Value,
        result: Option<&Value>,
        capabilities: &Map<String, Value>,
    ) -> Result<Value> {
        let mut config = plugin.as_object().context("a plugin is an object")?.clone();
        for shared in ["name", "cniVersion"] {
            if let Some(value) = self.conflist.get(shared) {
                config.insert(shared.to_owned(), value.clone());
            }
        }
        let wanted = |name: &str| plugin["capabilities"][name] == json!(true);
        let runtime: Map<_, _> = capabilities
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            config.insert("runtimeConfig".to_owned(), runtime.into());
        }
        if let Some(result) = result {
            config.insert("prevResult".to_owned(), result.clone());
        }
        Ok(config.into())
    }
}

/// The error document in a failed [`Network`] or [`Outcome`](crate::plugin::Outcome) call.
///
/// # Panics
/// When the error is another: the test's expectation is wrong then.
pub fn cni_error<T: std::fmt::Debug>(result: Result<T>) -> CniError {
    match result {
        Ok(value) => panic!("expected a CNI error, got {value:?}"),
        Err(error) => error
            .downcast::<CniError>()
            .unwrap_or_else(|error| panic!("expected a CNI error, got {error:?}")),
    }
}

fn key(attachment: &Attachment) -> (String, String) {
    (attachment.container_id.clone(), attachment.ifname.clone())
}
