//! Packages for another architecture, and the container image of several.

use std::fs;
use std::path::Path;

use lab::anyhow::ensure;
use lab::suite::Package;
use lab::{Result, Test, World, test};

use crate::machine::{self, run};
use crate::podman;

pub(crate) const TESTS: &[Test] = &[
    test!(a_package_for_another_architecture_is_built_without_running_its_programs),
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

fn a_package_for_another_architecture_is_built_without_running_its_programs(
    world: &World,
) -> Result {
    machine::enter(world)?;
    let programs = programs_of_another_architecture()?;
    run(&["packaging/deb", programs, "/tmp"])?;
    let package = format!("/tmp/leasehold_{}-1_arm64.deb", env!("CARGO_PKG_VERSION"));
    let listed = run(&["dpkg-deb", "--contents", &package])?;
    ensure!(listed.contains("./usr/lib/cni/macvlan"), "{listed}");
    Ok(())
}

fn of_an_image_of_two_architectures_a_machine_loads_its_own(world: &World) -> Result {
    machine::enter(world)?;
    podman::configure()?;
    let (own, other) = (machine::programs(), programs_of_another_architecture()?);
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

/// Makes copies of the programs that cannot be run here.
fn programs_of_another_architecture() -> Result<&'static str> {
    let directory = "/tmp/programs-of-another-architecture";
    fs::create_dir(directory)?;
    for name in ["macvlan", "dhcp"] {
        let mut program = fs::read(machine::checkout(&machine::programs()).join(name))?;
        program[MACHINE..MACHINE + 2].copy_from_slice(&AARCH64.to_le_bytes());
        fs::write(Path::new(directory).join(name), program)?;
    }
    Ok(directory)
}

/// This machine's, in the words of container images.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
