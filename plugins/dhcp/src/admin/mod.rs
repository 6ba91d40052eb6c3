//! What an operator runs by hand, and what a container without a shell runs as its probe or its
//! init container: `dhcp status`, `dhcp install`.

mod install;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::protocol::DEFAULT_SOCKET;

/// Whether `dhcp WORD` is one of these commands.
pub(crate) fn knows(word: &str) -> bool {
    ["status", "install"].contains(&word)
}

/// Runs a command, given as everything that follows `dhcp`. Says on stderr why it failed.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome =
        match Admin::parse_from(std::iter::once(OsString::from("dhcp")).chain(args)).command {
            Command::Status { socketpath } => status::status(&socketpath),
            Command::Install { directory } => install::install(&directory),
        };
    match outcome {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("dhcp: {why}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "dhcp", version, max_term_width = 100)]
struct Admin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks the daemon whether it can serve; fails when it cannot, or does not answer
    Status {
        /// Socket of the daemon
        #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
        socketpath: PathBuf,
    },
    /// Copies this program, and the macvlan beside it, into a directory of plugins
    ///
    /// Each file is written under another name and then renamed, so that a runtime finds the old
    /// plugin or the new one, never half of one, and a daemon that runs from there goes on.
    Install {
        /// Where the runtime looks for plugins, such as /opt/cni/bin; made if it is not there
        directory: PathBuf,
    },
}
