//! The daemon's log on a disk that is full, and to readers that are slow, asleep or gone.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::{Daemon, DhcpServer, Lan, Network, Result, Test, World, network, suite, test, until};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::fs::OFlags;

use crate::limits::{dhcp, script};
use crate::scenario::{SOON, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(a_full_disk_costs_log_lines_and_no_lease),
    test!(a_reader_that_has_gone_costs_log_lines_and_no_lease),
    test!(a_reader_that_stops_reading_delays_neither_callers_nor_sigterm),
];

fn a_full_disk_costs_log_lines_and_no_lease(world: &World) -> Result {
    let lan = Lan::new()?;
    let daemon = start_logging_to(world, &lan, Path::new("/dev/full"))?;
    one_container_comes_and_goes(&lan, &daemon)?;
    daemon.stop()
}

fn a_reader_that_has_gone_costs_log_lines_and_no_lease(world: &World) -> Result {
    let lan = Lan::new()?;
    let (pipe, reader) = pipe(world)?;
    let daemon = start_logging_to(world, &lan, &pipe)?;
    drop(reader);
    one_container_comes_and_goes(&lan, &daemon)?;
    daemon.stop()
}

fn a_reader_that_stops_reading_delays_neither_callers_nor_sigterm(world: &World) -> Result {
    let lan = Lan::new()?;
    let (pipe, mut reader) = pipe(world)?;
    let daemon = start_logging_to(world, &lan, &pipe)?;
    // More than the pipe holds: each ADD and DEL writes a line.
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let come_and_go = |number: usize| -> Result {
        let attachment = network::Attachment {
            container_id: format!("c{number}"),
            ..network::Attachment::new(&container)
        };
        network.add(&attachment)?;
        network.del(&attachment)
    };
    (0..30).try_for_each(come_and_go)?;
    let log = read(&mut reader)?;
    ensure!(log.contains("is ready"), "{log}");

    come_and_go(30)?;
    until("the daemon says that lines are missing", SOON, || {
        read(&mut reader).is_ok_and(|log| log.contains("log lines were dropped"))
    })?;
    (31..60).try_for_each(come_and_go)?;
    daemon.stop()
}

fn one_container_comes_and_goes(lan: &Lan, daemon: &Daemon) -> Result {
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    reported(&network.add(&attachment)?, &container)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the address is released", SOON, || {
        server.leases().is_empty()
    })
}

/// A daemon whose stderr is this file.
fn start_logging_to(world: &World, lan: &Lan, file: &Path) -> Result<Daemon> {
    let program = script(
        world,
        &format!(
            "exec {}/dhcp \"$@\" 2>{}",
            suite::plugin_dir().display(),
            file.display()
        ),
    )?;
    Daemon::start_program(world, &lan.host, &program, &[])
}

/// A small pipe with a name, and a reader that does not read until it is told to.
fn pipe(world: &World) -> Result<(PathBuf, File)> {
    let path = world.dir().join("log-pipe");
    mkfifo(&path, Mode::S_IRWXU)?;
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .context("open the pipe")?;
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096))?;
    Ok((path, reader))
}

/// What is in the pipe.
fn read(pipe: &mut File) -> Result<String> {
    let mut buffer = vec![0; 1 << 16];
    let length = pipe.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
