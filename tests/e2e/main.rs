//! The end-to-end suite: real plugins, real servers, real callers, each test in a world of its own
//! (see `lab`).
//!
//! `LEASEHOLD_PLUGIN_DIR=/usr/lib/cni` runs it against other plugins of the same names.

mod attach;
mod autostart;
mod callers;
mod chains;
mod chaos;
mod confinement;
mod daemon;
mod dhcp;
mod embedders;
mod examples;
mod failure;
mod faults;
mod flood;
mod guard;
mod host_access;
mod hostile;
mod hostile_names;
mod ipam;
mod limits;
mod log;
mod macvlan;
mod netavark;
mod network_files;
mod networks;
mod offline;
mod one_process;
mod operator;
mod persistence;
mod podman_proxy;
mod scenario;
mod servers;
mod socket;
mod two_holders;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    lab::Suite::new()
        .plugin_dir(plugins_of_ours())
        .tests(attach::TESTS)
        .tests(&servers::tests())
        .tests(ipam::TESTS)
        .tests(failure::TESTS)
        .tests(faults::TESTS)
        .tests(&macvlan::tests())
        .tests(&netavark::tests())
        .tests(&host_access::tests())
        .tests(&guard::tests())
        .tests(&dhcp::tests())
        .tests(&networks::tests())
        .tests(network_files::TESTS)
        .tests(&examples::tests())
        .tests(daemon::TESTS)
        .tests(log::TESTS)
        .tests(persistence::TESTS)
        .tests(offline::TESTS)
        .tests(one_process::TESTS)
        .tests(operator::TESTS)
        .tests(&podman_proxy::tests())
        .tests(autostart::TESTS)
        .tests(callers::TESTS)
        .tests(&embedders::tests())
        .tests(chains::TESTS)
        .tests(chaos::TESTS)
        .tests(confinement::TESTS)
        .tests(&limits::tests())
        .tests(socket::TESTS)
        .tests(flood::TESTS)
        .tests(hostile::TESTS)
        .tests(hostile_names::TESTS)
        .tests(&two_holders::tests())
        .run()
}

/// Where cargo has put the plugins; or beside this program, where both were copied to another
/// place.
fn plugins_of_ours() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let built = || {
        Path::new(env!("CARGO_BIN_EXE_macvlan"))
            .parent()
            .unwrap_or(Path::new("."))
            .to_owned()
    };
    beside
        .filter(|directory| directory.join("macvlan").is_file())
        .unwrap_or_else(built)
}
