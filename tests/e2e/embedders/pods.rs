//! OpenShift's network operator and RKE2's chart run the daemon in a pod that has the host's socket
//! and netns, but nothing of the host's disk.
//!
//! openshift/cluster-network-operator, `bindata/network/multus/003-dhcp-daemon.yaml`: the init
//! container runs `rm -f /host/run/cni/dhcp.sock`, the daemon `dhcp daemon -hostprefix /host`, with
//! /run/cni, /proc and /run/netns of the host below /host.
//! rancher/rke2-charts, `packages/rke2-multus/charts/templates/dhcp-daemonSet.yaml`: the daemon runs
//! without arguments, with /run/cni and /run/netns; the init container's `rm -f /run/cni/dhcp.sock`
//! misses, because it has that directory at /host/run/cni.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{
    Attachment, DhcpServer, Lan, Network, Node, Process, Result, Test, World, suite, test, until,
};

use crate::limits::script;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(leases_outlive_openshifts_pods),
    test!(leases_outlive_rke2s_pods),
];

/// A container of a pod. Its root file system is its image's, and new whenever it starts.
struct Pod {
    /// Where the image has the program.
    program: &'static str,
    arguments: &'static [&'static str],
    /// Directories of the host, and where the container has them.
    mounts: &'static [(&'static str, &'static str)],
    /// What an init container does with these mounts.
    init: &'static str,
}

const OPENSHIFT: Pod = Pod {
    program: "/usr/src/plugins/bin/dhcp",
    arguments: &["daemon", "-hostprefix", "/host"],
    mounts: &[
        ("/run/cni", "/host/run/cni"),
        ("/proc", "/host/proc"),
        ("/run/netns", "/host/var/run/netns"),
    ],
    init: "rm -f /host/run/cni/dhcp.sock",
};

const RKE2: Pod = Pod {
    program: "/opt/cni/bin/dhcp",
    arguments: &["daemon"],
    mounts: &[("/run/cni", "/run/cni"), ("/run/netns", "/var/run/netns")],
    init: "true",
};

impl Pod {
    fn start(&self, world: &World, host: &Node) -> Result<Process> {
        self.run(world, host, self.init)
    }

    /// What kubelet does when the container has died: the init containers have run already.
    fn start_again(&self, world: &World, host: &Node) -> Result<Process> {
        self.run(world, host, "true")
    }

    fn run(&self, world: &World, host: &Node, init: &str) -> Result<Process> {
        let mounts = self.mounts.iter().map(|(outside, inside)| {
            format!("mkdir -p {outside} /mnt{inside}; mount --rbind {outside} /mnt{inside}\n")
        });
        // The machine's programs and libraries serve as the image's.
        let text = format!(
            "set -e
            mount -t tmpfs none /mnt
            for directory in proc usr bin lib lib64; do
                test -d /$directory || continue
                mkdir /mnt/$directory
                mount --rbind /$directory /mnt/$directory
            done
            mount -t tmpfs none /mnt/usr/src
            {mounts}
            mkdir -p $(dirname /mnt{program})
            cp {dhcp} /mnt{program}
            chroot /mnt sh -c '{init}'
            exec chroot /mnt {program} {arguments}",
            mounts = mounts.collect::<String>(),
            dhcp = suite::plugin_dir().join("dhcp").display(),
            program = self.program,
            arguments = self.arguments.join(" "),
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave"])
            .arg(script(world, &text)?);
        let mut daemon = Process::spawn(world, host, "dhcp-pod", command)?;
        daemon.until("its socket accepts", Duration::from_secs(10), || {
            UnixStream::connect("/run/cni/dhcp.sock").is_ok()
        })?;
        Ok(daemon)
    }
}

fn leases_outlive_openshifts_pods(world: &World) -> Result {
    leases_outlive(&OPENSHIFT, world)
}

fn leases_outlive_rke2s_pods(world: &World) -> Result {
    leases_outlive(&RKE2, world)
}

fn leases_outlive(pod: &Pod, world: &World) -> Result {
    let lan = Lan::new()?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, settings)?;
    let network = Network::new(&lan.host, conflist(json!({ "ipam": { "type": "dhcp" } })));
    let [first, second] = [lan.container("c1")?, lan.container("c2")?];
    // CRI-O's and containerd's way to write the path.
    let attachment = |container: &Node| Attachment {
        netns: Some(format!("/var/run/netns/{}", container.name()).into()),
        ..Attachment::new(container)
    };
    let mut daemon = pod.start(world, &lan.host)?;
    until("the log says where leases are kept", SOON, || {
        daemon.log().contains("/run/cni/dhcp.leases")
    })?;
    for container in [&first, &second] {
        network.add(&attachment(container))?;
    }
    let discovers = || server.received_of(MessageType::Discover).len();
    let before = discovers();

    // An update of the DaemonSet: one pod ends before the next starts.
    daemon.stop()?;
    let mut daemon = pod.start(world, &lan.host)?;
    renewed(&daemon)?;
    network.check(&attachment(&first))?;

    // The container dies. Meanwhile a workload ends.
    daemon.kill()?;
    network.del(&attachment(&second))?;
    ensure_nothing_left(&second)?;
    until("the lease is released", SOON, || server.leases().len() == 1)?;
    let daemon = pod.start_again(world, &lan.host)?;
    renewed(&daemon)?;
    network.check(&attachment(&first))?;
    ensure!(discovers() == before, "{}", server.transcript());
    network.del(&attachment(&first))?;
    ensure_nothing_left(&first)?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

fn renewed(daemon: &Process) -> Result {
    until("a lease is renewed", SOON, || {
        daemon.log().contains("lease renewed")
    })
    .with_context(|| daemon.log())
}
