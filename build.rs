//! Names the build, and says what a release costs that is not built for musl.

use std::path::Path;
use std::{env, fs, io};

/// What both programs are built from.
const SOURCES: [&str; 5] = ["Cargo.lock", "Cargo.toml", "crates", "plugins", "src"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut build = Fnv(0xcbf2_9ce4_8422_2325);
    for variable in ["TARGET", "PROFILE"] {
        build.add(env::var(variable).unwrap_or_default().as_bytes());
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        add(&mut build, Path::new(source)).expect("the sources can be read");
    }
    println!("cargo::rustc-env=LEASEHOLD_BUILD={:016x}", build.0);

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

/// The hash function FNV-1a, which is the same everywhere.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Adds the names and contents of the files.
fn add(build: &mut Fnv, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| add(build, entry));
    }
    build.add(path.as_os_str().as_encoded_bytes());
    build.add(&fs::read(path)?);
    Ok(())
}
