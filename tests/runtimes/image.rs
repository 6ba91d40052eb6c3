//! A container image without a registry: Debian's static busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use lab::Result;
use lab::serde_json::json;
use lab::suite::Package;

use crate::machine::{output, write};

/// The static busybox. The program does not tell it from the dynamic one, which udhcpd brings.
pub(crate) const PACKAGE: Package =
    Package::new("busybox-static", "/var/lib/dpkg/info/busybox-static.list");

/// The image's name, as the documentation's commands say it.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:latest";

/// Writes the image as a docker-archive, which Podman and containerd take alike.
pub(crate) fn busybox(archive: &Path) -> Result {
    let scratch = archive.with_extension("d");
    let root = scratch.join("root");
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in ["httpd", "ip", "ping", "sh", "sleep"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let tar = |directory: &Path, file: &Path, parts: &[&str]| {
        output(
            Command::new("tar")
                .arg("-C")
                .arg(directory)
                .arg("-cf")
                .arg(file)
                .args(parts),
        )
    };
    let layer = scratch.join("layer.tar");
    tar(&root, &layer, &["."])?;
    let digest = output(Command::new("sha256sum").arg(&layer))?;
    let config = json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": { "Entrypoint": null, "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", &digest[..64])] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"] }]);
    write(scratch.join("config.json"), &config.to_string())?;
    write(scratch.join("manifest.json"), &manifest.to_string())?;
    tar(
        &scratch,
        archive,
        &["manifest.json", "config.json", "layer.tar"],
    )?;
    Ok(())
}
