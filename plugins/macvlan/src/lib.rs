//! The CNI plugin `macvlan`: gives a container an interface of its own on the LAN, as a macvlan on
//! one of the host's links.
//!
//! Each of CNI's operations is a module with its name. The plugin keeps no record of the objects
//! that it made: marks on the objects in the kernel show them ([`attachment::OwnerMark`],
//! [`attachment::SharedLink`]).

mod add;
mod check;
mod cleanup;
pub mod config;
mod del;
mod gc;
mod guard;
mod host_access;
pub mod netavark;
mod netns;
pub mod parent;
mod plugin;
mod refused_routes;
mod status;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use cni::BuiltIn;

use plugin::Macvlan;

/// The whole of the program, of which these delegates are part: the CNI plugin, and the driver that
/// netavark runs under another name.
pub fn main(built_in: &'static [BuiltIn]) -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_none() {
        let mut arguments = std::env::args_os().skip(1);
        let command = arguments.next();
        if let Some(command) = command.and_then(|word| netavark::Command::named(&word)) {
            return netavark::main(built_in, command, arguments.next());
        }
    }
    cni::main(&Macvlan::new(built_in, None))
}

/// The keys of the network configuration that this plugin takes, besides those that every CNI
/// plugin has.
pub fn configuration_keys() -> &'static [&'static str] {
    config::keys()
}
