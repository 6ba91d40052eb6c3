//! The suite of real runtimes: Podman, containerd and systemd themselves, from the files in
//! `examples/`, the commands in the documentation, and the packages that `packaging/` builds. Each
//! test has a machine of its own: a world (see `lab`), and in it a root directory of which nothing
//! is written back.
//!
//! It is for root: container runtimes mount, own files of many users and make devices. So it is no
//! part of a plain `cargo test`; `sudo cargo test --test runtimes` runs it.

mod architectures;
mod bare;
mod capabilities;
mod containerd;
mod debian;
mod document;
mod image;
mod kubernetes;
mod machine;
mod netavark;
mod package;
mod podman;
mod podman5;
mod rpm;
mod scenario;
mod systemd;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "error: real container runtimes need root; run these tests with: sudo cargo test --test runtimes"
        );
        return ExitCode::FAILURE;
    }
    let built = Path::new(env!("CARGO_BIN_EXE_macvlan"))
        .parent()
        .unwrap_or(Path::new("."));
    lab::Suite::new()
        .plugin_dir(built)
        .tests(podman::TESTS)
        .tests(podman5::TESTS)
        .tests(containerd::TESTS)
        .tests(kubernetes::TESTS)
        .tests(architectures::TESTS)
        .tests(capabilities::TESTS)
        .tests(systemd::TESTS)
        .tests(package::TESTS)
        .tests(rpm::TESTS)
        .tests(netavark::TESTS)
        .tests(bare::TESTS)
        .afterwards(debian::remove)
        .run()
}
