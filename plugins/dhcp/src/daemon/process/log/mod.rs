//! The daemon's log: to stderr, or, if a plugin started the daemon, to the journal or a file.

mod repeats;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::OFlags;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

use repeats::Repeats;
use writer::LogWriter;

/// What this process has logged.
static REPEATS: Repeats = Repeats::new();

/// Logs how many lines were left out because they are like many before them.
pub(crate) fn report_repeats() {
    REPEATS.report();
}

/// Logs to stderr what has this level or a higher one.
pub(crate) fn to_stderr(level: LevelFilter) {
    // Without a stderr, or a descriptor for it, the daemon runs without a log.
    if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
        let _ = to_file(stderr, level);
    }
    log_panics();
}

/// Detaches from the session and the descriptors of the process that started this one, and logs to
/// the journal or, if there is none, to the file `log` in `directory`. It must be called before
/// anything is opened.
pub(crate) fn detach(directory: &Path, level: LevelFilter) -> io::Result<()> {
    close_inherited()?;
    silence_standard_streams()?;
    // This fails for the leader of a process group, which has no terminal to detach from.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    if let Ok(journal) = tracing_journald::layer() {
        let journal = journal.with_syslog_identifier("cni-dhcp".into());
        let concise = filter_fn(is_wanted);
        registry()
            .with(level)
            .with(concise)
            .with(&REPEATS)
            .with(journal)
            .init();
    } else {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let file = File::options()
            .create(true)
            .append(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(directory.join("log"))?;
        to_file(file.into(), level)?;
    }
    log_panics();
    Ok(())
}

/// Logs to this file. A line that cannot be written is never an error.
fn to_file(file: OwnedFd, level: LevelFilter) -> io::Result<()> {
    let lines = fmt::layer()
        .with_writer(Mutex::new(LogWriter::to(file)?))
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    let concise = filter_fn(is_wanted);
    registry()
        .with(level)
        .with(concise)
        .with(&REPEATS)
        .with(lines)
        .init();
    Ok(())
}

/// Whether a line of this kind is wanted at all: of HTTP/2's frames there are too many, and the calls
/// that they make up are logged.
fn is_wanted(of: &Metadata<'_>) -> bool {
    *of.level() <= Level::INFO || !of.target().starts_with("h2")
}

/// Logs panics like everything else. By default they are written to stderr, which may block.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(tracing::field::display);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, "panicked: {message}");
    }));
}

/// Closes all descriptors except the standard ones.
fn close_inherited() -> io::Result<()> {
    let inherited: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in inherited {
        // This fails for the descriptor that listed the directory, which is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// Replaces the standard streams by `/dev/null`. If they were closed, the next files to be opened
/// would take their places.
fn silence_standard_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, set_hook, take_hook};

    use super::testing::logged;
    use super::*;

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let usual = take_hook();
        let log = logged(|| {
            log_panics();
            assert!(catch_unwind(|| panic!("a bug")).is_err());
        });
        set_hook(usual);
        assert!(log.contains("panicked: a bug"), "{log}");
        assert!(log.contains(file!()), "{log}");
    }
}
