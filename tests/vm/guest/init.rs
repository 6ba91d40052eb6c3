//! PID 1: furnishes the machine, runs the suite, tells the verdict, ends the machine.

use std::convert::Infallible;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use lab::Result;
use lab::anyhow::Context;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;

use crate::MODULES;

/// The serial port on which the verdict leaves the machine. Nothing else is written there.
const VERDICT: &str = "/dev/ttyS1";

/// Returns only if the machine cannot be ended; the kernel panics then, and the host hears no
/// verdict.
pub(crate) fn boot() -> ExitCode {
    let passed = furnish()
        .and_then(|()| run_suite())
        .unwrap_or_else(|error| {
            eprintln!("{error:#}");
            false
        });
    let Err(error) = tell(if passed { "passed" } else { "failed" });
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

fn furnish() -> Result {
    for (kind, directory) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount(
            Some(kind),
            directory,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mount {directory}"))?;
    }
    let mut modules = fs::read_dir(MODULES)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    modules.sort();
    for module in modules {
        finit_module(&File::open(&module)?, c"", ModuleInitFlags::empty())
            .with_context(|| format!("load {}", module.display()))?;
    }
    Ok(())
}

/// In a process of its own, with the arguments that the kernel has passed on: it may crash without
/// the kernel's panic.
fn run_suite() -> Result<bool> {
    let mut suite = Command::new("/proc/self/exe");
    suite
        .arg0("vm")
        .args(env::args_os().skip(1))
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
    Ok(suite.status().context("run the suite")?.success())
}

fn tell(verdict: &str) -> Result<Infallible> {
    let mut port = File::options().write(true).open(VERDICT).context(VERDICT)?;
    port.write_all(verdict.as_bytes())?;
    // What a port has not sent yet is lost with the machine.
    tcdrain(&port)?;
    tcdrain(io::stdout())?;
    Ok(reboot(RebootMode::RB_POWER_OFF)?)
}
