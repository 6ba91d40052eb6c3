//! The DHCP daemon under test.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Node, Process, Result, World, suite};

/// The daemon's default socket. `/run` is private to the world.
const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// `dhcp daemon` on a private socket. It is killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    socket: PathBuf,
}

impl Daemon {
    /// Starts the daemon under test on `host`, on `dhcp.sock` in the world's directory, and waits
    /// until it accepts.
    ///
    /// # Errors
    /// When it ends or does not accept in time; with its log.
    pub fn start(world: &World, host: &Node) -> Result<Daemon> {
        Daemon::start_with(world, host, &[])
    }

    /// Like [`Daemon::start`], with more arguments.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(world: &World, host: &Node, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start_program(world, host, &suite::plugin_dir().join("dhcp"), arguments)
    }

    /// Like [`Daemon::start_with`], with a given program: for the benchmark, which compares two.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_program(
        world: &World,
        host: &Node,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Daemon> {
        Daemon::start_at(
            world,
            host,
            program,
            world.dir().join("dhcp.sock"),
            arguments,
        )
    }

    /// Like [`Daemon::start`], on a socket of this name in the world's directory: for a second
    /// daemon, whose leases are then in a directory of their own.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_on(world: &World, host: &Node, socket: &str) -> Result<Daemon> {
        let program = suite::plugin_dir().join("dhcp");
        Daemon::start_at(world, host, &program, world.dir().join(socket), &[])
    }

    /// Starts the daemon under test on the socket of configurations that name none.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_at_default_path(world: &World, host: &Node) -> Result<Daemon> {
        Daemon::start_at(
            world,
            host,
            &suite::plugin_dir().join("dhcp"),
            DEFAULT_SOCKET.into(),
            &[],
        )
    }

    fn start_at(
        world: &World,
        host: &Node,
        program: &Path,
        socket: PathBuf,
        arguments: &[&str],
    ) -> Result<Daemon> {
        let mut command = Command::new(program);
        command
            .args(["daemon", "-socketpath"])
            .arg(&socket)
            .args(arguments);
        let process = Process::spawn(world, host, "dhcp-daemon", command)?;
        let mut daemon = Daemon { process, socket };
        daemon.wait_until_it_accepts()?;
        Ok(daemon)
    }

    /// Its socket: `daemonSocketPath` in a configuration.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process, for signals and waiting.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it does not end in time, or not with status 0.
    pub fn stop(mut self) -> Result {
        self.process.stop()
    }

    /// SIGKILL, and waits for the end. The socket file stays, without a listener.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn kill(mut self) -> Result {
        self.process.kill()
    }

    fn wait_until_it_accepts(&mut self) -> Result {
        let socket = &self.socket;
        self.process
            .until("its socket accepts", Duration::from_secs(10), || {
                UnixStream::connect(socket).is_ok()
            })
    }
}
