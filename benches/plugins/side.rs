//! One side of the comparison: the plugins of a directory, with a daemon of their own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::plugin::Call;
use lab::serde_json::Value;
use lab::{Node, Process, Result, World};

/// What each side has.
pub(crate) const PLUGINS: [&str; 2] = ["macvlan", "dhcp"];

/// One side: plugins with their daemon.
pub(crate) struct Side {
    pub(crate) dir: PathBuf,
    pub(crate) socket: PathBuf,
    /// Killed when dropped.
    _daemon: Process,
}

impl Side {
    /// Copies the plugins beside those of the other side: how long a process takes to start depends
    /// on the file system that its program is on.
    pub(crate) fn start(world: &World, host: &Node, plugins: &Path) -> Result<Side> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = world.dir().join(format!("plugins-{number}"));
        fs::create_dir(&dir)?;
        for name in PLUGINS {
            fs::copy(plugins.join(name), dir.join(name))?;
        }
        let name = format!("dhcp-{number}");
        let socket = world.dir().join(format!("{name}.sock"));
        let mut command = Command::new(dir.join("dhcp"));
        command.args(["daemon", "-socketpath"]).arg(&socket);
        let mut daemon = Process::spawn(world, host, &name, command)?;
        daemon.until("its socket accepts", Duration::from_secs(10), || {
            UnixStream::connect(&socket).is_ok()
        })?;
        Ok(Side {
            dir,
            socket,
            _daemon: daemon,
        })
    }

    /// A call of one of its plugins for the container `name`, whose interface is `eth0`. Its
    /// delegates are its own too.
    pub(crate) fn call(&self, plugin: &str, verb: &str, container: &Node, config: &Value) -> Call {
        Call::of(self.dir.join(plugin), &[&self.dir], verb)
            .container(container.name())
            .netns(container.path())
            .ifname("eth0")
            .config(config)
    }
}
