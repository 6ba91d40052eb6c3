//! The commands that an operator runs by hand, and that a container without a shell runs as its
//! probe or its init container: `dhcp status`, `dhcp leases`, `dhcp renew` and so on.

mod adopt;
mod advice;
mod cached_call;
mod install;
mod leases;
mod renew;
mod status;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use cni::printable;

use crate::go_flags::with_two_dashes;
use crate::protocol::DEFAULT_SOCKET;
use cached_call::CachedCall;

const COMMANDS: [&str; 6] = ["status", "leases", "renew", "release", "install", "adopt"];

/// Whether `dhcp WORD` is one of these commands.
pub(crate) fn is_command(word: &str) -> bool {
    COMMANDS.contains(&word)
}

/// Runs a command with the arguments that follow `dhcp`. If it fails, reports why on stderr.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // One dash does, as for the flags of `dhcp daemon`.
    let args = std::iter::once(OsString::from("dhcp")).chain(args.map(with_two_dashes));
    let failed = |line| vec![line];
    let outcome = match Cli::parse_from(args).command {
        Command::Status { daemon } => status::status(&daemon.socketpath).map_err(failed),
        Command::Leases { ids, json, daemon } => {
            leases::leases(&daemon.socketpath, &ids, json).map_err(failed)
        }
        Command::Renew { ids, daemon } => renew::renew(&daemon.socketpath, &ids),
        Command::Release { ids, daemon } => renew::release(&daemon.socketpath, &ids),
        Command::Install { directory } => one_line(install::install(&directory)),
        Command::Adopt { cachedir } => adopt::adopt(&cachedir),
    };
    match outcome {
        Ok(lines) => {
            print(&mut io::stdout(), "", &lines);
            ExitCode::SUCCESS
        }
        Err(lines) => {
            print(&mut io::stderr(), "dhcp: ", &lines);
            ExitCode::FAILURE
        }
    }
}

fn one_line(outcome: Result<String, String>) -> Result<Vec<String>, Vec<String>> {
    outcome.map(|line| vec![line]).map_err(|line| vec![line])
}

/// Writes the lines, each after `prefix`.
fn print(stream: &mut impl Write, prefix: &str, lines: &[String]) {
    for line in lines {
        // The exit status says what matters, even if nobody reads the text.
        let _ = writeln!(stream, "{prefix}{}", printable(line));
    }
}

/// Whether a file of libcni's cache is about an attachment of the IPAM plugin `dhcp`.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn is_adoptable(file: &[u8]) -> Result<bool, String> {
    Ok(CachedCall::parse(file)?.is_some())
}

#[derive(Debug, Parser)]
#[command(name = "dhcp", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the daemon listens.
#[derive(Debug, Args)]
struct DaemonSocket {
    /// Socket of the daemon
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socketpath: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks the daemon whether it can serve requests; fails if it cannot, or does not answer
    ///
    /// Bad files in /etc/leasehold/networks.d are named on stderr. They do not make it fail.
    Status {
        #[command(flatten)]
        daemon: DaemonSocket,
    },
    /// Lists the leases of the daemon: containers, addresses, servers, states and times
    ///
    /// Root sees all of them, and a member of the group that -group admits those of its own. A
    /// container is named as the DHCP server knows it. Below the table is how far the client got for
    /// each lease that is not bound.
    Leases {
        /// Only those of containers whose ID begins so, or that have this name
        ids: Vec<String>,
        /// Print JSON: a list of objects, in which times are in seconds
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonSocket,
    },
    /// Confirms leases with their servers now, which extends them; fails if a server is silent
    Renew {
        /// Containers: the beginnings of their IDs, or their names
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        daemon: DaemonSocket,
    },
    /// Ends leases, and gives their addresses back to the servers
    ///
    /// The containers lose their addresses. This is for leases that nobody will detach.
    Release {
        /// Containers: the beginnings of their IDs, or their names
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        daemon: DaemonSocket,
    },
    /// Copies this program and the macvlan plugin beside it into a directory of plugins
    ///
    /// Each file is written under a temporary name and then renamed, so that a runtime finds either
    /// the old plugin or the new one, never half of one. A daemon that runs from that directory is
    /// not disturbed.
    Install {
        /// Where the runtime looks for plugins, such as /opt/cni/bin; created if missing
        directory: PathBuf,
    },
    /// Takes over the leases of running containers that the Go daemon had
    ///
    /// Reads how runtimes attached the containers from the cache of libcni, and requests a lease of
    /// the address that each container has. One that has a lease already is left alone. Fails if one
    /// of them gets none. Run it on the host: a daemon's container has no cache.
    Adopt {
        /// Directory with the runtime's cached results, instead of /var/lib/cni/results and
        /// /var/lib/cni/multus/results; can be given several times
        #[arg(long, value_name = "DIR")]
        cachedir: Vec<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_command_is_left_to_cni() {
        for command in COMMANDS {
            assert!(is_command(command), "{command}");
        }
        assert!(!is_command("daemon") && !is_command("--help") && !is_command("stats"));
    }

    #[test]
    fn the_outcome_of_a_command_is_a_line() {
        let line = || "done".to_owned();
        assert_eq!(one_line(Ok(line())), Ok(vec![line()]));
        assert_eq!(one_line(Err(line())), Err(vec![line()]));
    }

    #[test]
    fn each_line_of_a_report_is_printed_as_one() {
        let mut printed = Vec::new();
        let lines = ["first\u{1b}[2J", "second\nthird"].map(str::to_owned);
        print(&mut printed, "dhcp: ", &lines);
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(printed, "dhcp: first\\u{1b}[2J\ndhcp: second\\nthird\n");
    }
}
