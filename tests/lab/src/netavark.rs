//! netavark with a driver in its plugin directory, called as Podman does.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{Node, Result, World, suite};

/// netavark on a host, with the driver under test.
#[derive(Clone, Debug)]
pub struct Netavark {
    plugins: PathBuf,
    config: PathBuf,
}

/// One container, and the networks that it is attached to.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its ID and its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The path of its namespace.
    pub netns: PathBuf,
    /// The networks, each with what is this container's own.
    pub networks: Vec<(Value, Value)>,
}

impl Container {
    /// A container in a node's namespace, named like it, on one network as eth0. `options` are added
    /// to what is its own there.
    pub fn new(node: &Node, network: &Value, options: Value) -> Container {
        let mut own = json!({ "interface_name": "eth0" });
        if let (Value::Object(own), Value::Object(options)) = (&mut own, options) {
            own.extend(options);
        }
        Container {
            id: format!("{:f<64}", node.name()),
            name: node.name().to_owned(),
            netns: node.path(),
            networks: vec![(network.clone(), own)],
        }
    }

    /// Its only network's part, as netavark passes it to the driver.
    fn driver_document(&self) -> Value {
        let (network, options) = self.networks.first().cloned().unwrap_or_default();
        json!({
            "container_id": self.id,
            "container_name": self.name,
            "port_mappings": null,
            "network": network,
            "network_options": options,
        })
    }

    /// The ID as Podman shows it, and adds it to the aliases.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    fn document(&self) -> Value {
        let (mut networks, mut info) = (Map::new(), Map::new());
        for (network, options) in &self.networks {
            let name = network["name"].as_str().unwrap_or_default();
            networks.insert(name.to_owned(), options.clone());
            info.insert(name.to_owned(), network.clone());
        }
        json!({
            "container_id": self.id,
            "container_name": self.name,
            "networks": networks,
            "network_info": info,
        })
    }
}

/// A network as Podman keeps it, with these fields besides.
pub fn network(name: &str, fields: Value) -> Value {
    let mut network = json!({
        "name": name,
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": Netavark::DRIVER,
        "created": "2026-01-01T00:00:00Z",
        "ipv6_enabled": false,
        "internal": false,
        "dns_enabled": false,
        "ipam_options": { "driver": "dhcp" },
    });
    if let (Value::Object(network), Value::Object(fields)) = (&mut network, fields) {
        network.extend(fields);
    }
    network
}

impl Netavark {
    /// The driver's name.
    pub const DRIVER: &str = "leasehold";

    /// With a link to the plugin under test, as a package installs it.
    ///
    /// # Errors
    /// When the test does not say that it needs [`NETAVARK`](suite::netavark::NETAVARK).
    pub fn new(world: &World) -> Result<Netavark> {
        Netavark::with_program(world, &suite::plugin_dir().join("macvlan"))
    }

    /// With a link to this program.
    ///
    /// # Errors
    /// As [`Netavark::new`].
    pub fn with_program(world: &World, program: &Path) -> Result<Netavark> {
        suite::netavark::command()?;
        let number = fs::read_dir(world.dir())?.count();
        let folder = world.dir().join(format!("netavark-{number}"));
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins)?;
        symlink(program, plugins.join(Netavark::DRIVER))?;
        Ok(Netavark {
            plugins,
            config: folder.join("config"),
        })
    }

    /// Has the driver create a network: Podman 5 runs it itself. Returns the network, and what the
    /// driver has written to its standard error.
    ///
    /// # Errors
    /// [`Refusal`], if the driver refuses it.
    pub fn create(&self, host: &Node, network: &Value) -> Result<(Value, String)> {
        let output = wait(start(host, self.driver(&["create"]), network)?)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((answer(&output)?, stderr))
    }

    /// Runs the driver itself for a container's only network, as later versions of netavark do where
    /// this one would not.
    ///
    /// # Errors
    /// [`Refusal`], if the driver fails.
    pub fn run_driver(&self, host: &Node, command: &str, container: &Container) -> Result<Value> {
        let netns = container.netns.display().to_string();
        let driver = self.driver(&[command, &netns]);
        answer(&wait(start(host, driver, &container.driver_document())?)?)
    }

    /// Like [`Netavark::run_driver`], with a standard output that nobody reads. Returns whether the
    /// driver succeeded nevertheless.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_driver_unread(
        &self,
        host: &Node,
        command: &str,
        container: &Container,
    ) -> Result<bool> {
        let netns = container.netns.display().to_string();
        let mut driver = self.driver(&[command, &netns]);
        driver.stdout(std::io::pipe()?.1);
        let started = start(host, driver, &container.driver_document())?;
        Ok(wait(started)?.status.success())
    }

    fn driver(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.plugins.join(Netavark::DRIVER));
        command.args(arguments).stdout(Stdio::piped());
        command
    }

    /// Attaches a container. Returns the status of each network, by its name.
    ///
    /// # Errors
    /// [`Refusal`], if netavark fails.
    pub fn setup(&self, host: &Node, container: &Container) -> Result<Value> {
        answer(&wait(self.start(host, "setup", container)?)?)
    }

    /// Detaches a container.
    ///
    /// # Errors
    /// [`Refusal`], if netavark fails.
    pub fn teardown(&self, host: &Node, container: &Container) -> Result {
        answer(&wait(self.start(host, "teardown", container)?)?).map(drop)
    }

    /// Starts a command for a container.
    ///
    /// # Errors
    /// When netavark cannot be started.
    pub fn start(&self, host: &Node, command: &str, container: &Container) -> Result<Child> {
        let mut netavark = suite::netavark::command()?;
        netavark
            .env("NETAVARK_FW", "none")
            .arg("--config")
            .arg(&self.config)
            .arg("--plugin-directory")
            .arg(&self.plugins)
            .arg(command)
            .arg(&container.netns)
            .stdout(Stdio::piped());
        start(host, netavark, &container.document())
    }

    /// The result of a command that was started.
    ///
    /// # Errors
    /// [`Refusal`], if netavark fails.
    pub fn finish(&self, child: Child) -> Result<Value> {
        answer(&wait(child)?)
    }
}

/// The text of an error, from netavark or the driver. Found in a [`Result`]'s error with
/// `downcast_ref`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// The text of the error that a command must have failed with.
///
/// # Errors
/// When it succeeded, or failed for another reason.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> Result<String> {
    match outcome {
        Ok(value) => bail!("it succeeded: {value:?}"),
        Err(error) => match error.downcast_ref::<Refusal>() {
            Some(Refusal(text)) => Ok(text.clone()),
            None => Err(error),
        },
    }
}

fn start(host: &Node, mut command: Command, document: &Value) -> Result<Child> {
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = host.spawn(&mut command)?;
    let mut stdin = child.stdin.take().context("a standard input")?;
    let document = document.to_string();
    // A program that ends without having read it says why.
    thread::spawn(move || stdin.write_all(document.as_bytes()).unwrap_or(()));
    Ok(child)
}

fn wait(child: Child) -> Result<Output> {
    Ok(child.wait_with_output()?)
}

/// The document on standard output; null if there is none.
fn answer(output: &Output) -> Result<Value> {
    let (stdout, stderr) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    let document: Value = match stdout.trim_ascii() {
        b"" => Value::Null,
        text => serde_json::from_slice(text)
            .with_context(|| format!("{}\n{stderr}", String::from_utf8_lossy(stdout)))?,
    };
    if output.status.success() {
        return Ok(document);
    }
    let error = document.as_object().context(stderr.into_owned())?;
    ensure!(error.len() == 1, "more than an error: {document}");
    let text = error.get("error").and_then(Value::as_str);
    Err(Refusal(text.context("a text")?.to_owned()).into())
}
