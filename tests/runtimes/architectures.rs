//! The container image of several architectures.

use std::fs;
use std::path::Path;

use lab::anyhow::ensure;
use lab::suite::Package;
use lab::{Result, Test, World, test};

use crate::machine::{self, run};
use crate::podman;

pub(crate) const TESTS: &[Test] =
    &[
        test!(of_an_image_of_two_architectures_a_machine_loads_its_own).needs(&[
            Package::new("podman", "podman"),
            Package::new("crun", "crun"),
            Package::new("conmon", "conmon"),
            Package::new("skopeo", "skopeo"),
        ]),
    ];

/// What the image is called once it is loaded.
const LOADED: &str = concat!("leasehold:", env!("CARGO_PKG_VERSION"));

/// Where an ELF file names its machine, and what 64-bit ARM is called there (e_machine, EM_AARCH64).
const MACHINE: usize = 18;
const AARCH64: u16 = 183;

fn of_an_image_of_two_architectures_a_machine_loads_its_own(world: &World) -> Result {
    machine::enter(world)?;
    podman::configure()?;
    let own = machine::programs();
    let other = "/tmp/programs-of-the-other-architecture";
    fs::create_dir(other)?;
    for name in ["macvlan", "dhcp"] {
        let mut program = fs::read(machine::checkout(&own).join(name))?;
        program[MACHINE..MACHINE + 2].copy_from_slice(&AARCH64.to_le_bytes());
        fs::write(Path::new(other).join(name), program)?;
    }
    for (place, programs) in [[&own, other], [other, &own]].iter().enumerate() {
        let image = format!("/tmp/image-{place}.tar");
        run(&["packaging/image", &image, programs[0], programs[1]])?;
        let listed = run(&[
            "skopeo",
            "inspect",
            "--raw",
            &format!("oci-archive:{image}"),
        ])?;
        for architecture in ["amd64", "arm64"] {
            let entry = format!(r#""architecture":"{architecture}""#);
            ensure!(listed.contains(&entry), "{listed}");
        }
        let loaded = run(&["podman", "load", "--input", &image])?;
        ensure!(loaded.contains(LOADED), "{loaded}");
        let told = run(&[
            "podman",
            "image",
            "inspect",
            "--format",
            "{{.Architecture}}",
            LOADED,
        ])?;
        ensure!(told.trim() == own_architecture(), "{told}");
        let told = run(&[
            "podman",
            "run",
            "--rm",
            "--network",
            "none",
            LOADED,
            "--version",
        ])?;
        ensure!(told.contains(env!("CARGO_PKG_VERSION")), "{told}");
        run(&["podman", "rmi", "--force", LOADED])?;
    }
    Ok(())
}

/// This machine's, in the words of container images.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
