//! The daemon's command line: the Go daemon's flags, in Go's spelling (`-name`, `--name`,
//! `-name=value`).

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use tracing::level_filters::LevelFilter;

use crate::duration;
use crate::go_flags::with_two_dashes;
use crate::state::StateDir;

/// Leases addresses for containers from the LAN's own DHCP server, renews the leases, and releases
/// them.
///
/// Flags may be written with one dash or two; durations as in Go: 2s, 1m30s.
#[derive(Debug, Parser)]
#[command(
    name = "dhcp daemon",
    version,
    max_term_width = 100,
    args_override_self = true
)]
pub(crate) struct Flags {
    /// Write the daemon's process id to this file, and remove the file at the end
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) pidfile: Option<PathBuf>,

    /// Where the host's root file system is mounted for the daemon: the prefix of the socket, of the
    /// default directory of the leases, and of every netns path
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub(crate) hostprefix: Option<PathBuf>,

    /// Socket on which the plugin reaches the daemon
    #[arg(long, value_name = "PATH", default_value = crate::protocol::DEFAULT_SOCKET, value_parser = path())]
    pub(crate) socketpath: PathBuf,

    /// Answer netavark on this socket too, in place of netavark-dhcp-proxy, which listens on
    /// /run/podman/nv-proxy.sock
    #[cfg(feature = "podman")]
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub(crate) podmansocket: Option<PathBuf>,

    /// Keep leases in this directory, instead of one under /var/lib/cni that is named after the
    /// socket, or of one beside the socket if the daemon is in a container that has nothing else of
    /// the host's files
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub(crate) statedir: Option<PathBuf>,

    /// Let this group, by name or number, use the socket too
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<u32>,

    /// Take over the socket and the leases of the daemon that is running
    #[arg(long)]
    pub(crate) takeover: bool,

    /// Exit when there has been no lease for this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) idle: Option<Duration>,

    /// Run without the caller's descriptors, in a session of its own (unless it leads a process
    /// group), and log to the journal (or, if there is none, to a file in the state directory)
    #[arg(long)]
    pub(crate) detach: bool,

    /// Log more: each request, and each message that is ignored
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Ask servers to broadcast their replies, for networks where unicast replies do not arrive
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool)]
    pub(crate) broadcast: bool,

    /// Wait this long for the answer to a DHCPREQUEST before asking all servers again
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,

    /// Longest pause between two retransmissions
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub(crate) resendmax: Duration,

    /// Give up an ADD after this long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    pub(crate) resendtimeout: Duration,
}

impl Flags {
    /// Parses what follows `dhcp daemon`. As usual with clap, it prints help or an error and exits.
    pub(crate) fn from_args(args: impl Iterator<Item = OsString>) -> Flags {
        Flags::try_from_args(args).unwrap_or_else(|error| error.exit())
    }

    /// As with Go's flags, of a flag that is repeated the last value counts, and an empty path is
    /// none: scripts pass `-pidfile "$PIDFILE"`.
    fn try_from_args(args: impl Iterator<Item = OsString>) -> Result<Flags, clap::Error> {
        let name = OsString::from("dhcp daemon");
        let mut flags =
            Flags::try_parse_from(std::iter::once(name).chain(args.map(with_two_dashes)))?;
        for path in [
            &mut flags.pidfile,
            &mut flags.hostprefix,
            #[cfg(feature = "podman")]
            &mut flags.podmansocket,
            &mut flags.statedir,
        ] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        if flags.socketpath.as_os_str().is_empty() {
            flags.socketpath = crate::protocol::DEFAULT_SOCKET.into();
        }
        Ok(flags)
    }

    /// The lowest level that is logged.
    pub(crate) fn log_level(&self) -> LevelFilter {
        match self.verbose {
            true => LevelFilter::DEBUG,
            false => LevelFilter::INFO,
        }
    }

    /// A path on the host, as the daemon sees it (`-hostprefix`).
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        match &self.hostprefix {
            Some(prefix) => prefix.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// The socket, as the daemon sees it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.on_host(&self.socketpath)
    }

    /// netavark's socket, as the daemon sees it, if it is to answer there.
    pub(crate) fn podman_socket(&self) -> Option<PathBuf> {
        #[cfg(feature = "podman")]
        return self.podmansocket.as_ref().map(|path| self.on_host(path));
        #[cfg(not(feature = "podman"))]
        None
    }

    /// The directory of the leases. The plugin on the host finds the default ones, too.
    pub(crate) fn state(&self) -> StateDir {
        if let Some(directory) = &self.statedir {
            return StateDir::at(directory.clone());
        }
        let default = StateDir::of_socket(&self.socketpath);
        let directory = match self.would_lose(&default) {
            true => StateDir::beside_socket(&self.socketpath),
            false => default,
        };
        StateDir::at(self.on_host(directory.path()))
    }

    /// Whether the daemon runs in a container whose end this directory on the host would not
    /// survive: it is on the container's own root file system, while the socket's is mounted.
    fn would_lose(&self, directory: &StateDir) -> bool {
        let device = |path: &Path| fs::metadata(path).ok().map(|file| file.dev());
        let socket = self.socket();
        let mut above_socket = socket.ancestors().skip(1).map(device);
        let is_mounted = match (above_socket.next(), above_socket.next()) {
            (Some(Some(directory)), Some(Some(above))) => directory != above,
            _ => false,
        };
        let directory = self.on_host(directory.path());
        is_mounted && directory.ancestors().find_map(device) == device(Path::new("/"))
    }
}

/// A path, which may be empty.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A group by its number, or by its name in group(5). The C library's own lookup may load
/// libraries, which a static program cannot do.
fn group(text: &str) -> Result<u32, String> {
    let named = || {
        let groups = fs::read_to_string("/etc/group").ok()?;
        groups.lines().find_map(|line| group_number(line, text))
    };
    text.parse()
        .ok()
        .or_else(named)
        .ok_or_else(|| format!("there is no group {text:?} in /etc/group"))
}

/// The number in a line `name:password:number:members`, if that is the group's line.
fn group_number(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let number = (fields.next()? == name).then(|| fields.nth(1))??;
    number.parse().ok()
}

/// A boolean in any form that Go's `strconv.ParseBool` accepts.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, clap::Error> {
        Flags::try_from_args(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_go_daemons_flags_are_accepted_with_one_dash_or_two() {
        for line in [
            "-pidfile /p -hostprefix /h -socketpath /s -broadcast -timeout 1s -resendmax 2s -resendtimeout 1m30s",
            "--pidfile=/p --hostprefix=/h --socketpath=/s --broadcast=true --timeout=1s --resendmax=2s --resendtimeout=1m30s",
            "-pidfile=/p -hostprefix=/h -socketpath=/s -broadcast=T -timeout=1s -resendmax=2s -resendtimeout=90s",
        ] {
            let flags = parse(line).expect(line);
            assert_eq!(flags.pidfile, Some("/p".into()));
            assert_eq!(flags.hostprefix, Some("/h".into()));
            assert_eq!(flags.socketpath, PathBuf::from("/s"));
            assert!(flags.broadcast);
            assert_eq!(
                [flags.timeout, flags.resendmax, flags.resendtimeout].map(|d| d.as_secs()),
                [1, 2, 90]
            );
        }
    }

    #[test]
    fn an_empty_path_is_none_and_the_last_of_several_values_counts() {
        let go_accepts = [
            "-pidfile",
            "",
            "-hostprefix=",
            "-socketpath",
            "",
            "-statedir=",
        ];
        let flags = Flags::try_from_args(go_accepts.into_iter().map(OsString::from));
        let flags = flags.expect("as with Go's flags");
        assert_eq!(
            (&flags.pidfile, &flags.hostprefix, &flags.statedir),
            (&None, &None, &None)
        );
        assert_eq!(flags.socket(), Path::new("/run/cni/dhcp.sock"));
        let line = "-timeout 5s -hostprefix /a -broadcast -takeover --timeout=6s -hostprefix /b -broadcast=false -takeover";
        let flags = parse(line).expect("as with Go's flags");
        assert_eq!(flags.timeout, Duration::from_secs(6));
        assert_eq!(flags.hostprefix, Some("/b".into()));
        assert!(flags.takeover && !flags.broadcast);
    }

    #[test]
    fn the_prefix_is_that_of_the_socket_and_of_the_default_directory_but_of_no_other_file() {
        let flags = parse("-hostprefix /host -pidfile /run/pid").expect("valid");
        assert_eq!(flags.socket(), Path::new("/host/run/cni/dhcp.sock"));
        assert_eq!(flags.state().path(), Path::new("/host/var/lib/cni/dhcp"));
        assert_eq!(flags.pidfile, Some("/run/pid".into()));
        let flags = parse("-hostprefix /host -statedir /leases").expect("valid");
        assert_eq!(flags.state().path(), Path::new("/leases"));
    }

    #[test]
    fn leases_would_be_lost_on_the_root_file_system_if_only_the_sockets_directory_is_mounted() {
        let would_lose = |socket: &str, directory: &str| {
            let flags = Flags {
                socketpath: socket.into(),
                ..parse("").expect("no flag is required")
            };
            flags.would_lose(&StateDir::at(directory.into()))
        };
        assert!(would_lose("/proc/dhcp.sock", "/nonexistent/leases"));
        assert!(!would_lose("/proc/dhcp.sock", "/proc/leases"));
        assert!(!would_lose("/proc/sys/dhcp.sock", "/nonexistent/leases"));
        assert!(!would_lose("/dhcp.sock", "/nonexistent/leases"));
        assert!(!would_lose("/nonexistent/dhcp.sock", "/nonexistent/leases"));
    }

    #[test]
    fn a_group_is_a_number_or_a_name() {
        assert_eq!(parse("-group 42").expect("a number").group, Some(42));
        assert_eq!(group_number("podman:x:977:alice,bob", "podman"), Some(977));
        assert_eq!(group_number("podman:x:977:alice", "pod"), None);
        assert_eq!(group_number("podman", "podman"), None);
        let error = parse("-group no-such-group")
            .expect_err("no such group")
            .to_string();
        assert!(error.contains("no-such-group"), "{error}");
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let flags = parse("").expect("no flag is required");
        assert_eq!(flags.socketpath, PathBuf::from("/run/cni/dhcp.sock"));
        assert!(!flags.broadcast && flags.pidfile.is_none());
        assert_eq!(flags.resendtimeout, Duration::from_secs(60));
    }

    #[test]
    fn a_bad_value_is_refused_naming_the_flag() {
        for (line, flag) in [
            ("-timeout 5", "--timeout"),
            ("-broadcast=perhaps", "--broadcast"),
            ("-nosuch", "--nosuch"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(flag), "{error}");
        }
    }
}
