//! One test in a process of its own: how the runner starts it, and how it reports back.

use std::{
    fs,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
    time::Duration,
};

use anyhow::Context;
use libtest_mimic::Failed;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{TEST, Test};
use crate::{deadline, world};

/// The verdict of a test's process, sent over the socket that is its standard input. The exit
/// status would come too late where a failed test's world is kept.
#[derive(Debug)]
pub(super) enum Verdict {
    Passed,
    Failed(String),
}

impl Verdict {
    pub(super) fn tell(&self) {
        let text = match self {
            Verdict::Passed => "passed",
            Verdict::Failed(reason) => &format!("failed{reason}"),
        };
        // A runner that no longer listens has had its verdict.
        let _ = std::io::stdin().as_fd().try_clone_to_owned().map(|stdin| {
            let mut runner = UnixStream::from(stdin);
            runner
                .write_all(text.as_bytes())
                .and_then(|()| runner.shutdown(std::net::Shutdown::Both))
        });
    }

    fn parse(text: &str) -> Option<Verdict> {
        match text {
            "passed" => Some(Verdict::Passed),
            _ => text
                .strip_prefix("failed")
                .map(|reason| Verdict::Failed(reason.to_owned())),
        }
    }
}

pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) output: String,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure {
            reason: format!("{error:#}"),
            output: String::new(),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::from(format!("{}\n{}", failure.output, failure.reason))
    }
}

pub(super) fn run_in_child(test: &Test, within: Duration, capture: bool) -> Result<(), Failure> {
    let (runner, child_end) = UnixStream::pair().context("make a socket pair")?;
    runner
        .set_read_timeout(Some(within))
        .context("set the deadline")?;
    // A file, not a pipe, which would have to be drained and kept open by orphans.
    let output = memfd_create(c"output", MFdFlags::MFD_CLOEXEC)
        .context("make a file for the test's output")?;
    let mut output = fs::File::from(output);

    let mut command = Command::new(world::SELF);
    command
        .arg0(TEST)
        .arg(test.name())
        .stdin(OwnedFd::from(child_end));
    if let Some(factor) = deadline::calibrated() {
        command.env(deadline::VARIABLE, factor.to_string());
    }
    if capture {
        command.stdout(output.try_clone().context("share the output file")?);
        command.stderr(output.try_clone().context("share the output file")?);
    }
    let mut child = command.spawn().context("start the test's process")?;
    drop(command); // and with it our copy of the child's end of the socket

    let mut text = String::new();
    let in_time = (&runner).read_to_string(&mut text).is_ok();
    let reason = match Verdict::parse(&text) {
        Some(Verdict::Passed) => {
            child.wait().context("wait for the test's process")?;
            return Ok(());
        }
        Some(Verdict::Failed(reason)) => reason,
        // Nobody is left to tell.
        None if in_time => {
            format!(
                "the test's process died: {}",
                child.wait().context("wait for the test's process")?
            )
        }
        None => format!("the test did not end within {within:?}"),
    };
    if !world::keep() {
        let _ = child.kill(); // the world goes with it; an error means that it has gone already
        child.wait().context("wait for the test's process")?;
    }
    Err(failure(reason, &mut output))
}

fn failure(reason: String, output: &mut fs::File) -> Failure {
    let mut bytes = Vec::new();
    // What cannot be read is missing from the report, the reason is not.
    let _ = output
        .rewind()
        .and_then(|()| output.read_to_end(&mut bytes));
    Failure {
        reason,
        output: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref().copied());
    text.unwrap_or("panicked").to_owned()
}
