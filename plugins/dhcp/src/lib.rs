//! The CNI plugin `dhcp`: leases a container's address from the LAN's own DHCP server. Run as `dhcp
//! daemon` it is also the daemon that keeps the leases.

mod absent;
mod admin;
mod autostart;
mod client;
mod config;
mod daemon;
mod duration;
#[cfg(test)]
mod fuzz;
mod place;
mod protocol;
mod store;
mod verbs;

use std::process::ExitCode;

/// Our own error codes: no lease is held for the attachment.
pub(crate) const NO_LEASE: u32 = 120;
/// The lease held is not the one that `prevResult` tells of.
pub(crate) const LEASE_DIFFERS: u32 = 121;

/// The keys of the `ipam` section that this plugin takes, besides `type`; those of an entry as
/// `provide[].option`.
pub fn configuration_keys() -> Vec<String> {
    config::keys()
}

/// The command line of `dhcp daemon`.
pub fn daemon_command() -> clap::Command {
    daemon::command()
}

/// The whole of the program.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "daemon" => daemon::main(args),
        Some(word) if word.to_str().is_some_and(admin::knows) => {
            admin::main(std::iter::once(word).chain(args))
        }
        _ => cni::main(&verbs::Dhcp),
    }
}
