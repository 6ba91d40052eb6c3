//! Says what a release costs that is not built for musl.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable, value| env::var(variable).as_deref() == Ok(value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let target = env::var("TARGET")
            .unwrap_or_default()
            .replace("gnu", "musl");
        println!(
            "cargo::warning=Built for glibc, which takes a multiple of the time to start each plugin. \
             Build with `--target {target}` to install (README.md, Install)."
        );
    }
}
