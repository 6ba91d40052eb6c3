//! The end-to-end suite: real plugins, real servers, real callers, each test in a world of its own (see `lab`).
//!
//! `LEASEHOLD_PLUGIN_DIR=/usr/lib/cni` runs it against other plugins of the same names.

mod attach;
mod autostart;
mod callers;
mod chaos;
mod daemon;
mod dhcp;
mod failure;
mod hostile;
mod ipam;
mod limits;
mod macvlan;
mod persistence;
mod scenario;
mod servers;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let built = Path::new(env!("CARGO_BIN_EXE_macvlan")).parent().unwrap_or(Path::new("."));
    lab::Suite::new()
        .plugin_dir(built)
        .tests(attach::TESTS)
        .tests(servers::TESTS)
        .tests(ipam::TESTS)
        .tests(failure::TESTS)
        .tests(&macvlan::tests())
        .tests(&dhcp::tests())
        .tests(daemon::TESTS)
        .tests(persistence::TESTS)
        .tests(autostart::TESTS)
        .tests(callers::TESTS)
        .tests(chaos::TESTS)
        .tests(limits::TESTS)
        .tests(hostile::TESTS)
        .run()
}
