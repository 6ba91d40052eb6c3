//! containerd's CRI, driven as a kubelet drives it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::servers::DNSMASQ;
use lab::suite::{Package, packages};
use lab::{Process, Result, Test, World, test};

use crate::document;
use crate::image;
use crate::machine;
use crate::scenario::{PLUGINS, SOON, Scenario};

const CONTAINERD: &[Package] = &[
    Package::new("containerd", "containerd"),
    Package::new("runc", "runc"),
    image::PACKAGE,
    Package::new(
        "python3-grpcio",
        "/usr/lib/python3/dist-packages/grpc/__init__.py",
    ),
    packages::GO_PLUGINS, // `loopback`, which the CRI wants in the same directory
    DNSMASQ.package,
];

pub(crate) const TESTS: &[Test] =
    &[test!(a_pod_of_containerds_cri_gets_its_address_from_the_lan).needs(CONTAINERD)];

const SOCKET: &str = "/run/containerd/containerd.sock";

fn a_pod_of_containerds_cri_gets_its_address_from_the_lan(world: &World) -> Result {
    machine::enter(world)?;
    let scenario = Scenario::new(world, PLUGINS, &[])?;
    for commands in document::commands("README.md", "containerd") {
        scenario.shell(commands)?;
    }
    let _containerd = start(world, &scenario)?;
    image::busybox(Path::new("/tmp/busybox.tar"))?;
    scenario.shell("ctr --namespace k8s.io images import /tmp/busybox.tar")?;

    let pod = cri(&scenario, "run-pod web")?;
    let address: Ipv4Addr = cri(&scenario, &format!("pod-address {pod}"))?
        .parse()
        .context("the pod's address")?;
    scenario.leased(address)?;
    scenario
        .lan
        .lan
        .ping(address.into(), SOON)
        .context("another host pings the pod")?;
    let container = cri(
        &scenario,
        &format!("run-container {pod} web main {}", image::BUSYBOX),
    )?;
    let seen = cri(
        &scenario,
        &format!("exec {container} /bin/ip -4 addr show eth0"),
    )?;
    ensure!(
        seen.contains(&address.to_string()),
        "the CRI says {address}, the container {seen}"
    );
    cri(
        &scenario,
        &format!("exec {container} /bin/ping -c 1 -W 2 10.99.0.1"),
    )?;
    cri(&scenario, &format!("remove-container {container}"))?;

    cri(&scenario, &format!("stop-pod {pod}"))?;
    scenario.given_back(address)?;
    // A kubelet repeats itself; containerd then calls DEL with an empty CNI_NETNS.
    cri(&scenario, &format!("stop-pod {pod}"))?;
    cri(&scenario, &format!("remove-pod {pod}"))?;
    Ok(())
}

/// Debian's configuration, with what it takes to run here at all; none of that is about networks.
fn start(world: &World, scenario: &Scenario) -> Result<Process> {
    machine::write(
        "/etc/containerd/config.toml",
        &format!(
            "version = 2\n\
             disabled_plugins = [\"io.containerd.internal.v1.opt\", \"io.containerd.tracing.processor.v1.otlp\"]\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n\
             sandbox_image = \"{}\"\n\
             disable_cgroup = true # there are no controllers\n\
             restrict_oom_score_adj = true # and this root has no CAP_SYS_RESOURCE\n\
             disable_apparmor = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
             bin_dir = \"{PLUGINS}\"\n\
             conf_dir = \"/etc/cni/net.d\"\n",
            image::BUSYBOX
        ),
    )?;
    let mut containerd = Process::spawn(
        world,
        &scenario.lan.host,
        "containerd",
        Command::new("containerd"),
    )?;
    containerd.until("it serves", Duration::from_secs(20), || {
        scenario
            .shell("ctr version")
            .is_ok_and(|told| told.contains("Server"))
    })?;
    Ok(containerd)
}

/// One call; returns what it prints.
fn cri(scenario: &Scenario, words: &str) -> Result<String> {
    machine::write("/tmp/cri.py", include_str!("cri.py"))?;
    let told = scenario.shell(&format!(
        "exec /usr/bin/python3 /tmp/cri.py {SOCKET} {words}"
    ))?;
    Ok(told.trim_end().to_owned())
}
