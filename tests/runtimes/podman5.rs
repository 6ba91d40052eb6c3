//! Podman 5 with the network driver, on Debian 13, as the documentation's sections say.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::{Result, Test, World, test, until};

use crate::bare::{APT_TIMEOUT, IMAGE, NEEDS, Newcomer};
use crate::debian::DEBIAN_13;
use crate::scenario::SOON;
use crate::{document, machine, podman};

pub(crate) const TESTS: &[Test] = &[
    test!(podman_5_runs_what_the_readme_says)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(podman_5_runs_what_its_page_says)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(a_lease_of_podman_5_outlives_the_daemon_and_a_reload)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(systemd_runs_the_example_of_quadlets)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(a_lease_outlives_a_kill_that_netavarks_own_lease_does_not)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
];

const INSPECT: &str = "podman inspect web --format '{{with .NetworkSettings.Networks.lan}}{{.IPAddress}} {{.MacAddress}}{{end}}'";
const CREATE: &str = "podman network create -d leasehold -o parent=eth1 lan";
const RUN: &str = "podman run -d --name web --network lan docker.io/library/busybox httpd -f";

/// Debian 13 with Podman, whose network backend is netavark. Leases are soon due for renewal.
fn with_podman(world: &World) -> Result<Newcomer> {
    let settings = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    with_leases(world, settings)
}

fn with_leases(world: &World, settings: Settings) -> Result<Newcomer> {
    let newcomer = Newcomer::with_server(&DEBIAN_13, world, settings)?;
    newcomer.shell("apt-get -q -y install --no-install-recommends podman")?;
    podman::configure()?;
    newcomer.shell(&format!("podman load --input {IMAGE}"))?;
    Ok(newcomer)
}

/// From the two programs, and the unit's daemon.
fn from_the_checkout(newcomer: &Newcomer) -> Result {
    newcomer.shell(
        "./dhcp install /opt/cni/bin\n\
         cp /usr/src/leasehold/examples/systemd/cni-dhcp.* /etc/systemd/system/\n\
         systemctl daemon-reload\n\
         systemctl start cni-dhcp.socket cni-dhcp.service",
    )?;
    Ok(())
}

fn podman_5_runs_what_the_readme_says(world: &World) -> Result {
    let newcomer = with_podman(world)?;
    from_the_checkout(&newcomer)?;
    let sections = document::commands("README.md", "Podman");
    let [link, create, run, inspect, fixed, restart, remove] = sections[..] else {
        bail!("the section has other commands than this test knows: {sections:#?}");
    };
    newcomer.shell(link)?;
    newcomer.shell(create)?;
    let drivers = newcomer.shell("podman info --format '{{.Plugins.Network}}'")?;
    ensure!(drivers.contains("leasehold"), "{drivers}");
    newcomer.shell(run)?;
    let told = newcomer.shell(inspect)?;
    let [address, gateway, mac] = told.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("podman inspect says: {told}");
    };
    ensure!(gateway == "10.99.0.1", "{told}");
    ensure!(newcomer.leased()?.to_string() == address, "{told}");
    let link = newcomer.shell("podman exec web ip link show eth0")?;
    ensure!(link.contains(mac), "inspect says {told}, and {link}");
    let resolvers = newcomer.shell(
        "podman exec web sh -c 'while read -r line; do echo \"$line\"; done </etc/resolv.conf'",
    )?;
    ensure!(resolvers.contains("nameserver 10.99.0.1"), "{resolvers}");

    newcomer.shell(fixed)?;
    let told = newcomer.shell("podman exec fixed ip link show eth0")?;
    ensure!(told.contains("02:11:22:33:44:55"), "{told}");
    newcomer.shell(restart)?;
    let told = newcomer.shell(inspect)?;
    ensure!(told.starts_with(address), "{told}");
    newcomer.lan.lan.ping(address.parse()?, SOON)?;
    newcomer.shell(remove)?;
    newcomer.given_back()?;
    let networks = newcomer.shell("podman network ls --quiet")?;
    ensure!(!networks.contains("lan"), "{networks}");
    Ok(())
}

fn podman_5_runs_what_its_page_says(world: &World) -> Result {
    let newcomer = with_podman(world)?;
    from_the_checkout(&newcomer)?;
    let block = |heading| match document::commands("docs/podman.md", heading)[..] {
        [block] => Ok(block),
        ref blocks => bail!("one block below {heading}: {blocks:#?}"),
    };
    newcomer.shell(block("The driver")?)?;

    let options: Vec<&str> = block("Options")?.lines().collect();
    let [create, run, remove @ ..] = &options[..] else {
        bail!("{options:#?}");
    };
    newcomer.shell(create)?;
    newcomer.shell(run)?;
    newcomer.leased()?;
    let discover = newcomer.server.wait_for(MessageType::Discover, 1, SOON)?;
    let hostname = discover.option(OptionCode::Hostname).cloned();
    let expected = DhcpOption::Hostname("sensor".to_owned());
    ensure!(hostname == Some(expected), "{hostname:?}");
    newcomer.shell(&remove.join("\n"))?;
    newcomer.given_back()?;

    let pool: Vec<&str> = block("Who assigns the addresses")?.lines().collect();
    let [create, run, remove @ ..] = &pool[..] else {
        bail!("{pool:#?}");
    };
    newcomer.shell(create)?;
    newcomer.shell(run)?;
    let asked_for = Ipv4Addr::new(10, 99, 0, 210);
    newcomer.lan.lan.ping(asked_for.into(), SOON)?;
    newcomer.shell(&remove.join("\n"))?;

    for (command, words) in [
        (
            "podman network create -d leasehold -o vlan=5000 wrong",
            "vlan: 5000 is not a VLAN identifier",
        ),
        (
            "podman network create -d leasehold -o clientID=[] wrong",
            "ipam.clientId",
        ),
        (
            "podman network create -d leasehold -o parent=eth9 later\n\
             podman run --rm --network later docker.io/library/busybox sleep 1",
            "master \"eth9\" does not exist: devices that exist: eth1",
        ),
    ] {
        let error = newcomer.shell(command).err().context(command)?;
        let error = format!("{error:#}");
        ensure!(error.contains(words), "{command}: {error}");
    }
    Ok(())
}

fn a_lease_of_podman_5_outlives_the_daemon_and_a_reload(world: &World) -> Result {
    let newcomer = with_podman(world)?;
    // catatonit is a pod's first process.
    newcomer.shell("apt-get -q -y install ./leasehold_*.deb catatonit")?;
    newcomer.shell(CREATE)?;
    newcomer.shell(RUN)?;
    let address = newcomer.leased()?;
    let before = newcomer.shell(INSPECT)?;

    newcomer.shell("systemctl kill --signal=KILL cni-dhcp.service")?;
    newcomer.server.take_received();
    newcomer
        .server
        .wait_for(MessageType::Request, 2, SOON)
        .context("the next daemon renews the lease")?;
    newcomer.lan.lan.ping(address.into(), SOON)?;

    newcomer.shell("podman network reload --all")?;
    let after = newcomer.shell(INSPECT)?;
    ensure!(after == before, "{before}{after}");
    newcomer.lan.lan.ping(address.into(), SOON)?;

    newcomer.shell("podman network disconnect lan web")?;
    newcomer.given_back()?;
    newcomer.shell("podman network connect --ip 10.99.0.150 lan web")?;
    ensure!(newcomer.leased()? == Ipv4Addr::new(10, 99, 0, 150));

    newcomer.shell("podman rm -f -t 0 web")?;
    newcomer.given_back()?;
    newcomer.shell("podman pod create --name pod --network lan --hostname inside")?;
    newcomer.shell("podman run -d --pod pod docker.io/library/busybox httpd -f")?;
    newcomer.leased()?;
    newcomer.shell("podman pod rm -f -t 0 pod && podman network rm lan")?;
    until("the lease is given back", SOON, || {
        newcomer.server.leases().is_empty()
    })
}

/// The same machine, the same server, the same kill: netavark's DHCP proxy, and the driver.
fn a_lease_outlives_a_kill_that_netavarks_own_lease_does_not(world: &World) -> Result {
    let settings = Settings {
        lease_time: Some(Duration::from_secs(6)),
        ..Settings::default()
    };
    let newcomer = with_leases(world, settings)?;
    newcomer.shell("apt-get -q -y install ./leasehold_*.deb")?;
    newcomer.shell("systemctl start netavark-dhcp-proxy.socket")?;
    newcomer.shell(CREATE)?;
    newcomer.shell("podman network create -d macvlan -o parent=eth1 --ipam-driver dhcp proxied")?;
    newcomer.shell(RUN)?;
    newcomer.shell(&RUN.replace("web", "theirs").replace(" lan ", " proxied "))?;
    let address = |container: &str, network: &str| -> Result<Ipv4Addr> {
        let field = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
        let told = newcomer.shell(&format!("podman inspect {container} --format '{field}'"))?;
        Ok(told.trim().parse()?)
    };
    let (ours, theirs) = (address("web", "lan")?, address("theirs", "proxied")?);
    let holds = |address| {
        let leases = newcomer.server.leases();
        leases.iter().any(|lease| lease.address == address)
    };
    ensure!(holds(ours) && holds(theirs));

    let kill = "systemctl kill --signal=KILL cni-dhcp.service netavark-dhcp-proxy.service";
    newcomer.shell(kill)?;
    // The next container has its proxy started again; ours is, as its unit says.
    newcomer.shell(&RUN.replace("web", "another").replace(" lan ", " proxied "))?;
    until("netavark's lease has expired", 4 * SOON, || !holds(theirs))?;
    ensure!(holds(ours), "{}", newcomer.systemd.journal());
    newcomer.lan.lan.ping(ours.into(), SOON)?;
    // The container does not know, so somebody else's packets would reach it.
    let told = newcomer.shell("podman exec theirs ip address show eth0")?;
    ensure!(told.contains(&format!("inet {theirs}/24")), "{told}");
    newcomer.shell("podman rm -f -t 0 web theirs another")?;
    newcomer.given_back()
}

fn systemd_runs_the_example_of_quadlets(world: &World) -> Result {
    let newcomer = with_podman(world)?;
    newcomer.shell("apt-get -q -y install ./leasehold_*.deb")?;
    // No controllers here: see podman::configure.
    let arguments = "[Container]\nPodmanArgs=--cgroups=disabled\n";
    machine::write(
        "/etc/containers/systemd/web.container.d/10-no-cgroups.conf",
        arguments,
    )?;
    newcomer.shell(
        "cp /usr/src/leasehold/examples/podman/lan.network /etc/containers/systemd/\n\
         cp /usr/src/leasehold/examples/podman/web.container /etc/containers/systemd/\n\
         systemctl daemon-reload",
    )?;
    for _ in 0..2 {
        // The container is recreated.
        let started = newcomer.shell("systemctl start web.service");
        started.with_context(|| newcomer.systemd.journal())?;
        newcomer.leased()?;
        newcomer.shell("systemctl stop web.service")?;
        newcomer.given_back()?;
    }
    let discovers = newcomer.server.received_of(MessageType::Discover);
    let identifiers = discovers
        .iter()
        .map(|discover| discover.option(OptionCode::ClientIdentifier));
    let mut identifiers: Vec<_> = identifiers.collect();
    ensure!(identifiers.len() >= 2, "{}", newcomer.server.transcript());
    identifiers.dedup();
    ensure!(identifiers.len() == 1, "{identifiers:?}");
    Ok(())
}
