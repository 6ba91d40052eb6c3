//! The lab tests itself, with its own runner: what it promises holds as root and as an ordinary
//! user.

use std::process::ExitCode;

use lab::Suite;

mod client;
mod dhcp;
mod lan;
mod plugins;
mod runner;
mod servers;
mod world;

fn main() -> ExitCode {
    if runner::is_faulty() {
        return Suite::new().tests(runner::FAULTY_TESTS).run();
    }
    Suite::new()
        .plugin_dir(plugins::PLUGIN_DIR)
        .tests(world::TESTS)
        .tests(lan::TESTS)
        .tests(dhcp::TESTS)
        .tests(&servers::tests())
        .tests(plugins::TESTS)
        .tests(runner::TESTS)
        .run()
}
