//! The CNI plugin `dhcp`: leases a container's address from the LAN's own DHCP server. Run as `dhcp
//! daemon` it is also the daemon that keeps the leases.

mod absent;
mod admin;
mod autostart;
mod client;
mod config;
mod daemon;
mod duration;
mod place;
mod protocol;
mod store;
mod verbs;

use std::process::ExitCode;

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
