//! A daemon and its plugins: ours, or those of another directory.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cni::Attachment;
use lab::anyhow::{bail, ensure};
use lab::plugin::Call;
use lab::serde_json::{self, Value, json};
use lab::{Lan, Node, Process, Result, World, until};
use leasehold_dhcp::protocol::{Reply, Request, VERSION, Verb};

use crate::crowd::{Member, NETWORK};
use crate::site::CONFIG_VERSION;

/// How many callers there are at a time.
const CALLERS: usize = 32;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A daemon, which is killed when this is dropped, and its plugins.
pub(crate) struct Side {
    name: String,
    plugins: PathBuf,
    socket: PathBuf,
    pub(crate) daemon: Process,
}

impl Side {
    /// Starts the daemon of the plugins in this directory, on a socket of this name.
    pub(crate) fn start(world: &World, host: &Node, name: &str, plugins: &Path) -> Result<Side> {
        let socket = world.dir().join(format!("{name}.sock"));
        let mut daemon = spawn(world, host, name, plugins, &socket)?;
        daemon.until("its socket accepts", Duration::from_secs(10), || {
            UnixStream::connect(&socket).is_ok()
        })?;
        Ok(Side {
            name: name.to_owned(),
            plugins: plugins.to_owned(),
            socket,
            daemon,
        })
    }

    /// Kills our daemon and starts it again, and returns the time until it serves a request.
    pub(crate) fn restart(&mut self, world: &World, host: &Node) -> Result<Duration> {
        self.daemon.kill()?;
        let begun = Instant::now();
        self.daemon = spawn(world, host, &self.name, &self.plugins, &self.socket)?;
        let socket = &self.socket;
        until("it answers", PATIENCE, || ask(socket, Verb::Status).is_ok())?;
        Ok(begun.elapsed())
    }

    /// Leases an address for each member, by our protocol.
    pub(crate) fn add(&self, members: &[Member]) -> Result {
        at_a_time(members, |member| {
            let verb = Verb::Add {
                attachment: member.attachment.clone(),
                netns: member.netns.clone(),
                params: Box::new(member.params()?),
                waited: None,
                id: None,
            };
            match ask(&self.socket, verb)? {
                Reply::Lease(_) => Ok(()),
                other => bail!("an ADD was answered by {other:?}"),
            }
        })
    }

    /// Leases an address for each member, by the plugin.
    pub(crate) fn add_by_plugin(&self, host: &Node, members: &[Member]) -> Result {
        at_a_time(members, |member| {
            let mut config: Value = serde_json::from_str(&Member::config())?;
            config["ipam"]["daemonSocketPath"] = json!(self.socket);
            Call::of(self.plugins.join("dhcp"), &[&self.plugins], "ADD")
                .container(member.attachment.container_id())
                .netns(&member.netns)
                .ifname(member.attachment.ifname())
                .config(&config)
                .run(host)?
                .success()
                .map(drop)
        })
    }

    /// Has our daemon release every lease of the crowd but these, and returns the time that it took.
    pub(crate) fn gc(&self, keep: &[Member]) -> Result<Duration> {
        let keep: Vec<Attachment> = keep
            .iter()
            .map(|member| member.attachment.clone())
            .collect();
        let network = NETWORK.to_owned();
        let begun = Instant::now();
        let reply = ask(&self.socket, Verb::Gc { network, keep })?;
        ensure!(matches!(reply, Reply::Done), "GC was answered by {reply:?}");
        Ok(begun.elapsed())
    }

    /// Attaches and detaches a container by the plugins, as a runtime does, and returns the time
    /// that ADD took.
    pub(crate) fn visit(&self, host: &Node, container: &Node) -> Result<Duration> {
        let mut config = json!({
            "cniVersion": CONFIG_VERSION,
            "name": "visitors",
            "type": "macvlan",
            "master": Lan::MASTER,
            "ipam": { "type": "dhcp", "daemonSocketPath": self.socket },
        });
        let call = |verb, config: &Value| {
            Call::of(self.plugins.join("macvlan"), &[&self.plugins], verb)
                .container(container.name())
                .netns(container.path())
                .ifname("eth0")
                .config(config)
                .run(host)
        };
        let added = call("ADD", &config)?;
        let took = added.took;
        config["prevResult"] = added.success()?;
        call("DEL", &config)?.success()?;
        Ok(took)
    }
}

fn spawn(world: &World, host: &Node, name: &str, plugins: &Path, socket: &Path) -> Result<Process> {
    let mut command = Command::new(plugins.join("dhcp"));
    command.args(["daemon", "-socketpath"]).arg(socket);
    Process::spawn(world, host, name, command)
}

/// Sends our daemon a request, and returns its reply.
fn ask(socket: &Path, verb: Verb) -> Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = Request {
        protocol: VERSION,
        traceparent: None,
        verb,
    };
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(serde_json::from_str(&reply)?)
}

/// Does something for each member, for [`CALLERS`] of them at a time.
fn at_a_time(members: &[Member], what: impl Fn(&Member) -> Result + Sync) -> Result {
    let share = members.len().div_ceil(CALLERS).max(1);
    thread::scope(|scope| {
        let callers = members
            .chunks(share)
            .map(|share| scope.spawn(|| share.iter().try_for_each(&what)));
        let callers: Vec<_> = callers.collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().expect("a caller does not panic"))
    })
}
