//! OpenShift's network operator and Rancher's charts run the daemon in a pod that has the host's
//! files under `/host`: `dhcp daemon -hostprefix /host`. They call the plugin on the host.

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, suite, test};

use crate::chaos::lease_files;
use crate::limits::{dhcp, script};
use crate::scenario::{SOON, address};

pub(super) const TESTS: &[Test] = &[test!(
    a_daemon_with_the_hosts_files_under_a_prefix_serves_the_host
)];

/// Where the pod has the host's files.
const PREFIX: &str = "/mnt";

fn a_daemon_with_the_hosts_files_under_a_prefix_serves_the_host(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let pod = format!(
        "exec unshare --mount --propagation slave sh -c 'mount --rbind / {PREFIX} && \
         mount -t tmpfs none /run && mount -t tmpfs none /var/lib && exec {}/dhcp \"$@\"' dhcp \"$@\"",
        suite::plugin_dir().display()
    );
    let program = script(world, &pod)?;
    let daemon = Daemon::start_program(world, &lan.host, &program, &["-hostprefix", PREFIX])?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    network.check(&attachment)?;

    // The leases are on the host's disk, where DEL finds them without a daemon, and the next pod.
    ensure!(lease_files()?.len() == 1, "{:?}", lease_files()?);
    daemon.kill()?;
    let daemon = Daemon::start_program(world, &lan.host, &program, &["-hostprefix", PREFIX])?;
    network.check(&attachment)?;
    ensure!(address(&container)? == leased, "it was {leased}");
    network.del(&attachment)?;
    lab::until("the lease is released", SOON, || server.leases().is_empty())?;
    daemon.stop()
}
