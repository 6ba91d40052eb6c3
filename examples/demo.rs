//! The whole path in two seconds: three containers get addresses of their own on a LAN, keep them,
//! give them back.
//!
//! ```text
//! cargo run --release --example demo
//! ```
//!
//! The LAN, its DHCP server and the containers live in namespaces that the demo makes for itself:
//! it needs no root, touches nothing on the machine, and leaves nothing behind. The plugins are the
//! real binaries, called as a container runtime calls them; the demo has cargo build them first.
//! With an argument it shows those of another directory.
//!
//! Exit status 0 says that everything it shows was also checked.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, World,
    anyhow::{Context, bail, ensure},
    dhcp_server::{Packet, Settings},
    dhcproto::v4::{DhcpOption, MessageType, OptionCode},
    serde_json::{Value, json},
};

const CONTAINERS: [&str; 3] = ["web", "db", "mail"];

/// The times of a lease: T1 is so short that a renewal can be watched.
const LEASE_TIME: Duration = Duration::from_secs(60);
const T1: Duration = Duration::from_secs(1);

/// Bounds the wait for anything that takes a packet or two.
const SOON: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let shown = match env::args_os().nth(1) {
        None => build_and_start_over(),
        Some(plugins) => show(Path::new(&plugins)),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo stops here: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Has the plugins built, then runs this program again with their directory for its argument.
/// Building is for the outside: in the demo's own world there is no network to fetch anything from.
fn build_and_start_over() -> Result {
    let this = env::current_exe().context("find out where this program is")?;
    let plugins = built_beside(&this)?;
    let error = Command::new(this).arg(plugins).exec();
    Err(error).context("start again with the plugins")
}

/// The directory of the plugins that belong to this program, `target/…/PROFILE/examples/demo`.
/// Cargo builds binaries for tests and benchmarks, but not for an example, so under `cargo run`
/// they are built here.
fn built_beside(this: &Path) -> Result<PathBuf> {
    let dir = this
        .ancestors()
        .nth(2)
        .context("an example is in a directory of its own")?;
    if let Some(cargo) = env::var_os("CARGO") {
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let arguments = [
            "build",
            "--bins",
            "--manifest-path",
            manifest,
            "--profile",
            profile,
        ];
        let built = Command::new(cargo)
            .args(arguments)
            .status()
            .context("start cargo")?;
        ensure!(built.success(), "cargo could not build the plugins");
    }
    ensure!(
        dir.join("macvlan").is_file() && dir.join("dhcp").is_file(),
        "the plugins are not in {}: name their directory as the argument",
        dir.display()
    );
    Ok(dir.to_owned())
}

/// Everything there is to see, in a world of its own.
fn show(plugins: &Path) -> Result {
    let world = lab::world::enter()?;
    let begun = Instant::now();
    let stage = Stage::set(&world, plugins)?;
    let shown = stage.play();
    if shown.is_err() {
        eprintln!(
            "\nThe daemon's log:\n{}\nThe server's view:",
            stage.daemon.log()
        );
        eprintln!("{}", stage.server.transcript());
    }
    shown?;
    stage.daemon.stop()?;
    println!(
        "\nEverything worked, in {:.2} s.",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A LAN with a server, and a host with a daemon and room for containers.
struct Stage {
    lan: Lan,
    server: DhcpServer,
    daemon: Daemon,
    plugins: PathBuf,
}

/// A container that is attached to the LAN.
struct Attached {
    container: Node,
    attachment: Attachment,
    /// As ADD returned it.
    result: Value,
    address: Ipv4Net,
    /// When ADD had returned.
    at: Instant,
}

impl Stage {
    fn set(world: &World, plugins: &Path) -> Result<Stage> {
        let lan = Lan::new()?;
        let settings = Settings {
            lease_time: Some(LEASE_TIME),
            t1: Some(T1),
            ..Settings::default()
        };
        let (first, last) = (*settings.pool.start(), *settings.pool.end());
        let server = DhcpServer::start(&lan.lan, settings)?;
        println!(
            "The LAN: a host with {}, and a DHCP server at {} for {first} to {last}",
            Lan::MASTER,
            Lan::NET
        );
        let begun = Instant::now();
        let daemon = Daemon::start_program(world, &lan.host, &plugins.join("dhcp"), &[])?;
        println!(
            "The daemon: listening after {}",
            milliseconds(begun.elapsed())
        );
        Ok(Stage {
            lan,
            server,
            daemon,
            plugins: plugins.to_owned(),
        })
    }

    fn play(&self) -> Result {
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": "lan",
            "plugins": [{
                "type": "macvlan",
                "master": Lan::MASTER,
                "ipam": { "type": "dhcp", "daemonSocketPath": self.daemon.socket() },
            }],
        });
        let network = Network::with_path(&self.lan.host, conflist, vec![self.plugins.clone()]);
        let containers = self.add(&network)?;
        self.ping(&containers)?;
        self.renew(&containers)?;
        self.del(&network, &containers)
    }

    fn add(&self, network: &Network<'_>) -> Result<Vec<Attached>> {
        println!("\nADD: each container gets an interface and a lease");
        println!("  container  MAC                address         gateway    lease       ADD");
        CONTAINERS
            .iter()
            .map(|name| self.add_one(network, name))
            .collect()
    }

    fn add_one(&self, network: &Network<'_>, name: &str) -> Result<Attached> {
        let container = self.lan.container(name)?;
        let attachment = Attachment::new(&container);
        let outcome = network
            .prepare("ADD", 0, &attachment, None)?
            .run(&self.lan.host)?;
        let at = Instant::now();
        let took = outcome.took;
        let result = outcome.success()?;
        let text = |pointer: &str| {
            result
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let address: Ipv4Net = text("/ips/0/address")
            .parse()
            .context("the address in the result of ADD")?;
        println!(
            "  {name:<9}  {:<17}  {:<14}  {:<9}  {:>3} s  {:>8}",
            text("/interfaces/0/mac"),
            address.to_string(),
            text("/ips/0/gateway"),
            self.lease_time(address.addr())?.as_secs(),
            milliseconds(took)
        );
        let there = container.ipv4(&attachment.ifname)?;
        ensure!(
            there == [address],
            "ADD said {address}, but the container has {there:?}"
        );
        Ok(Attached {
            container,
            attachment,
            result,
            address,
            at,
        })
    }

    /// For how long the server said that this address was granted.
    fn lease_time(&self, address: Ipv4Addr) -> Result<Duration> {
        let ack = self
            .acks(address)
            .next_back()
            .with_context(|| format!("nobody granted {address}"))?;
        match ack.option(OptionCode::AddressLeaseTime) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => {
                Ok(Duration::from_secs((*seconds).into()))
            }
            _ => bail!("the grant of {address} has no lease time"),
        }
    }

    fn acks(&self, address: Ipv4Addr) -> impl DoubleEndedIterator<Item = Packet> {
        let of_it = move |packet: &Packet| {
            packet.kind() == Some(MessageType::Ack)
                && packet
                    .message
                    .as_ref()
                    .is_ok_and(|message| message.yiaddr() == address)
        };
        self.server.sent().into_iter().filter(of_it)
    }

    fn ping(&self, containers: &[Attached]) -> Result {
        let mut targets: Vec<_> = containers
            .iter()
            .map(|to| (to.container.name(), to.address.addr()))
            .collect();
        targets.push(("server", Lan::ADDRESS));
        print!("\nPING: they reach each other and the server\n  from  to ");
        for (name, _) in &targets {
            print!("  {name:>9}");
        }
        println!();
        for from in containers {
            print!("  {:<9}", from.container.name());
            for (_, to) in &targets {
                let took = if *to == from.address.addr() {
                    "-".to_owned()
                } else {
                    format!(
                        "{} µs",
                        from.container.ping(IpAddr::V4(*to), SOON)?.as_micros()
                    )
                };
                print!("  {took:>9}");
            }
            println!();
        }
        Ok(())
    }

    fn renew(&self, containers: &[Attached]) -> Result {
        println!(
            "\nRENEWAL: due at T1, {} s after each lease began",
            T1.as_secs()
        );
        for one in containers {
            let name = one.container.name();
            let address = one.address.addr();
            let requests = || self.server.received_of(MessageType::Request).into_iter();
            let what = format!("{name} renews its lease from {address}");
            let request = lab::until(&what, T1 + SOON, || {
                requests().find(|request| *request.source.ip() == address)
            })?;
            let unicast = *request.destination.ip() == Lan::ADDRESS
                && request.ethernet_destination[0] & 1 == 0;
            ensure!(
                unicast,
                "a renewal is unicast to the server (RFC 2131, section 4.4.5): {request}"
            );
            lab::until("the renewal is acknowledged", SOON, || {
                self.acks(address).count() >= 2
            })?;
            println!(
                "  {:<9}  {} asks {}, unicast, {:.2} s after ADD; acknowledged for {} s",
                name,
                request.source.ip(),
                request.destination.ip(),
                request.at.duration_since(one.at).as_secs_f64(),
                self.lease_time(address)?.as_secs()
            );
        }
        Ok(())
    }

    fn del(&self, network: &Network<'_>, containers: &[Attached]) -> Result {
        println!("\nDEL: the addresses are released, the interfaces removed");
        println!("  container  released         DEL");
        for (nth, one) in containers.iter().enumerate() {
            let call = network.prepare("DEL", 0, &one.attachment, Some(&one.result))?;
            let outcome = call.run(&self.lan.host)?;
            let took = outcome.took;
            outcome.success()?;
            let release = self.server.wait_for(MessageType::Release, nth + 1, SOON)?;
            println!(
                "  {:<9}  {:<11}  {:>8}",
                one.container.name(),
                release.source.ip().to_string(),
                milliseconds(took)
            );
            let left = one.container.find_link(&one.attachment.ifname)?;
            ensure!(
                left.is_none(),
                "{} still has its interface after DEL",
                one.container.name()
            );
        }
        let leases = self.server.leases();
        ensure!(leases.is_empty(), "the server still has leases: {leases:?}");
        println!("  the server's pool is empty again");
        Ok(())
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
