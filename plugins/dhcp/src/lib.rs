//! The CNI plugin `dhcp`: leases a container's address from the LAN's own DHCP server. Run as `dhcp
//! daemon` it is also the daemon that maintains the leases.
//!
//! - `plugin` is the IPAM plugin, `daemon` the daemon, `cli` the operator's commands; `config` is the
//!   keys of the `ipam` section.
//! - [`protocol`] is what plugin and daemon send each other.
//! - `proxy_protocol` is what netavark sends the daemon, and gets back (the feature `podman`).
//! - [`state`] is the leases on disk, which the plugin changes if no daemon runs.

mod cli;
mod config;
mod daemon;
mod duration;
mod go_flags;
mod plugin;
pub mod protocol;
#[cfg(feature = "podman")]
pub mod proxy_protocol;
mod random;
pub mod state;

use std::process::ExitCode;

/// The keys of the `ipam` section that this plugin takes, besides `type`; those of an entry as
/// `provide[].option`.
pub fn configuration_keys() -> Vec<String> {
    config::keys()
}

/// What a plugin called with this request asks the daemon for, if the verb is ADD. `file` is the
/// content of the network's file in /etc/leasehold/networks.d; `None` if there is none.
///
/// # Errors
/// `INVALID_NETWORK_CONFIG` (7) or `INVALID_ENVIRONMENT` (4), naming what is invalid.
pub fn lease_params(
    request: &cni::Request,
    file: Option<&[u8]>,
) -> Result<protocol::LeaseParams, cni::Error> {
    plugin::lease_params(request, file)
}

/// Whether `dhcp adopt` would ask for the lease of the attachment that this file of libcni's cache
/// describes.
///
/// # Errors
/// What is wrong with the file.
pub fn is_adoptable(cache_file: &[u8]) -> Result<bool, String> {
    cli::is_adoptable(cache_file)
}

/// The plugin as a delegate that is part of another program. It asks a daemon that answers; the
/// executable, which has this mark, is to be run if there is none.
pub const fn built_in(mark: &'static [u8]) -> cni::BuiltIn {
    cni::BuiltIn {
        name: "dhcp",
        mark,
        serve: plugin::ask_daemon,
    }
}

/// The command line of `dhcp daemon`.
pub fn daemon_command() -> clap::Command {
    daemon::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "daemon" => daemon::main(args),
        Some(word) if word.to_str().is_some_and(cli::is_command) => {
            cli::main(std::iter::once(word).chain(args))
        }
        _ => cni::main(&plugin::Dhcp::<plugin::Executable>::default()),
    }
}
