//! How long a runtime waits for our plugins, compared with others of the same names.
//!
//! ```text
//! cargo bench --bench plugins                      # against Debian's Go plugins, if they are installed
//! cargo bench --bench plugins -- --rounds 1000 /opt/cni/bin
//! ```
//!
//! Both sides are called in one world of namespaces (no privileges are needed), on one LAN, with a
//! DHCP server that answers at once; each side's plugins ask their own daemon. The sides take
//! turns, and which one begins changes from round to round, so that drifts affect both alike. The
//! times are those that a runtime sees, from the start of a plugin's process to its end. They are
//! not asserted. The floor is what the kernel and the server take by themselves.

mod burst;
mod floor;
mod side;
mod table;

use std::{
    cell::RefCell,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use lab::{
    DhcpServer, Lan, Node, Result, World,
    anyhow::Context,
    dhcp_server::{Packet, Settings},
    dhcproto::v4::MessageType,
    plugin::{Call, Outcome},
    serde_json::{Value, json},
};

use side::{PLUGINS, Side};
use table::{Samples, Table};

/// Measures our plugins against those of another directory.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Directory of the plugins to compare with [default: $LEASEHOLD_BASELINE, or Debian's
    /// /usr/lib/cni]
    baseline: Option<PathBuf>,
    /// How often each side does what takes milliseconds
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// How often each side attaches a container with macvlan and dhcp together, which takes the Go
    /// plugins seconds
    #[arg(long, default_value_t = 10)]
    slow_rounds: usize,
    /// How many containers a burst attaches, 32 at a time; 0 leaves the burst out
    #[arg(long, default_value_t = 200)]
    burst: usize,
    /// The directory of our plugins [default: as they are built]
    #[arg(long)]
    plugins: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    lab::exit_code(run(&Options::parse()))
}

fn run(options: &Options) -> Result {
    let world = lab::world::enter()?;
    let directories = directories(options);
    let bench = Bench::set(&world, directories.clone())?;
    bench.table().print_head();
    bench.version(options.rounds)?;
    bench.macvlan(options.rounds)?;
    bench.dhcp(options.rounds)?;
    bench.both(options.slow_rounds)?;
    bench.guard(options.rounds)?;
    // The burst has servers and daemons of its own.
    let Bench { lan, server, sides } = bench;
    drop((server, sides));
    match options.burst {
        0 => Ok(()),
        containers => burst::run(&world, &lan, &directories, containers.min(burst::MAX)),
    }
}

/// The directory of our plugins, and that of the others if they are there.
fn directories(options: &Options) -> Vec<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_macvlan")).parent();
    let ours = options
        .plugins
        .as_deref()
        .or(built)
        .unwrap_or(Path::new("."));
    let ours = ours.to_owned();
    let baseline = options
        .baseline
        .clone()
        .or_else(|| env::var_os("LEASEHOLD_BASELINE").map(PathBuf::from));
    let baseline = baseline.unwrap_or_else(|| PathBuf::from(lab::plugin::DEBIANS_PLUGINS));
    if let Some(missing) = PLUGINS.iter().find(|name| !baseline.join(name).is_file()) {
        println!(
            "There is no {missing} in {}: only ours are measured. To compare, install other plugins there (Debian's \
             package is containernetworking-plugins), or name their directory as the argument.\n",
            baseline.display()
        );
        return vec![ours];
    }
    println!("others: {}\n", baseline.display());
    vec![ours, baseline]
}

/// The spec version of every configuration: the newest that Debian's Go plugins know.
const VERSION: &str = "1.0.0";

/// One LAN, one server, and the sides on one host.
struct Bench {
    lan: Lan,
    server: DhcpServer,
    sides: Vec<Side>,
}

impl Bench {
    fn set(world: &World, directories: Vec<PathBuf>) -> Result<Bench> {
        let lan = Lan::new()?;
        // Leases without an end: no renewal of an earlier round falls into a later one.
        let server = DhcpServer::start(
            &lan.lan,
            Settings {
                lease_time: None,
                ..Settings::default()
            },
        )?;
        let sides = directories
            .into_iter()
            .map(|dir| Side::start(world, &lan.host, &dir))
            .collect::<Result<_>>()?;
        Ok(Bench { lan, server, sides })
    }

    /// A process that does next to nothing.
    fn version(&self, rounds: usize) -> Result {
        let config = json!({ "cniVersion": VERSION });
        let versions = |side: &Side| {
            let version = |plugin: &str| {
                let call = Call::of(side.dir.join(plugin), &[&side.dir], "VERSION").config(&config);
                call.run(&self.lan.host).and_then(time)
            };
            Ok([version("macvlan")?, version("dhcp")?])
        };
        let (samples, floor) = self.take_turns(rounds, versions, || Ok([None, None]))?;
        let labels = ["macvlan VERSION", "dhcp VERSION"];
        self.table().print(labels, &samples, &floor);
        Ok(())
    }

    /// An interface without an address.
    fn macvlan(&self, rounds: usize) -> Result {
        let container = self.lan.container("layer2")?;
        let attach = |side: &Side| Ok(self.attach(side, "macvlan", &container, &config())?.times());
        let floor = || Ok(floor::macvlan(&self.lan.host, &container)?.map(Some));
        let (samples, floor) = self.take_turns(rounds, attach, floor)?;
        let labels = ["macvlan ADD", "macvlan DEL"];
        self.table().print(labels, &samples, &floor);
        Ok(())
    }

    /// An address for an interface that is up already: the dhcp plugin and its daemon alone.
    fn dhcp(&self, rounds: usize) -> Result {
        let container = self.lan.container("leases")?;
        let add = self.sides[0].call("macvlan", "ADD", &container, &config());
        add.run(&self.lan.host)?.success()?;
        let attach = |side: &Side| {
            let config = with_dhcp(config(), side);
            Ok(self.attach(side, "dhcp", &container, &config)?.times())
        };
        let (samples, floor) = self.take_turns(rounds, attach, || Ok([None, None]))?;
        let labels = ["dhcp ADD, link up before", "dhcp DEL, link up before"];
        self.table().print(labels, &samples, &floor);
        Ok(())
    }

    /// The whole, an interface with an address, and where the time of its ADD goes: a DISCOVER that
    /// is sent before the new link carries anything costs its sender the wait until it sends
    /// another.
    fn both(&self, rounds: usize) -> Result {
        let container = self.lan.container("whole")?;
        let attach = |side: &Side| {
            let (heard, said) = (self.server.received().len(), self.server.sent().len());
            let attached = self.attach(side, "macvlan", &container, &with_dhcp(config(), side))?;
            let discover = moment(&self.server.received()[heard..], MessageType::Discover)?;
            let ack = moment(&self.server.sent()[said..], MessageType::Ack)?;
            let [add, del] = attached.times();
            Ok([
                add,
                del,
                discover - attached.begun,
                ack - discover,
                attached.begun + add - ack,
            ])
        };
        let waits = RefCell::new(Vec::new());
        let floor = || {
            self.server.forget();
            let [add, del, waited] = floor::both(&self.lan.host, &container)?;
            waits.borrow_mut().push(waited);
            Ok([Some(add), Some(del), None, None, None])
        };
        let (samples, floor) = self.take_turns(rounds, attach, floor)?;
        let labels = [
            "macvlan + dhcp ADD",
            "macvlan + dhcp DEL",
            "  ADD until DISCOVER is heard",
            "  ADD from there to the ACK",
            "  ADD from there to its end",
        ];
        self.table().print(labels, &samples, &floor);
        let labels = ["  the server's two answers"];
        self.table().print(labels, &[], &[waits.into_inner()]);
        Ok(())
    }

    /// What a guard adds, on our side: the others have none. All ADDs of a batch come before its
    /// DELs, after which the kernel needs some time to free the rules: the next ADD would wait.
    fn guard(&self, rounds: usize) -> Result {
        /// How many containers of each kind there are at once.
        const BATCH: usize = 10;
        let side = &self.sides[0];
        let plain = with_dhcp(config(), side);
        let mut guarded = plain.clone();
        guarded["guard"] = json!(true);
        let kinds = [plain, guarded];
        let container = |number| self.lan.container(&format!("guard{number}"));
        let containers: Vec<Node> = (0..=BATCH * 2).map(container).collect::<Result<_>>()?;

        let mut samples = [const { Vec::new() }; 4];
        while samples[0].len() < rounds {
            // The first ADD may have to wait for the DELs of before: it is not counted.
            let (first, others) = containers.split_first().context("no container")?;
            let mut attached = vec![(1, first, self.add(side, "macvlan", first, &kinds[1])?)];
            for (number, pair) in others.chunks(2).enumerate() {
                for (place, container) in pair.iter().enumerate() {
                    // Each kind is added first in every other pair.
                    let kind = (number + place) % 2;
                    let added = self.add(side, "macvlan", container, &kinds[kind])?;
                    samples[kind].push(added.took);
                    attached.push((kind, container, added));
                }
            }
            for (kind, container, added) in attached {
                let took = self.del(side, "macvlan", container, &kinds[kind], added.result)?;
                samples[kind + 2].push(took);
            }
        }
        let labels = [
            "ADD without a guard",
            "ADD with a guard",
            "DEL without a guard",
            "DEL with a guard",
        ];
        self.table()
            .print(labels, &[samples], &[const { Vec::new() }; 4]);
        Ok(())
    }

    /// ADD and DEL, as a runtime calls them.
    fn attach(
        &self,
        side: &Side,
        plugin: &str,
        container: &Node,
        config: &Value,
    ) -> Result<Attached> {
        // The server ignores RELEASE from no address, as the Go daemon sends it: it would run out
        // of addresses.
        self.server.forget();
        let added = self.add(side, plugin, container, config)?;
        let begun = Instant::now() - added.took;
        let del = self.del(side, plugin, container, config, added.result)?;
        Ok(Attached {
            begun,
            add: added.took,
            del,
        })
    }

    fn add(&self, side: &Side, plugin: &str, container: &Node, config: &Value) -> Result<Added> {
        let outcome = side
            .call(plugin, "ADD", container, config)
            .run(&self.lan.host)?;
        let took = outcome.took;
        let result = outcome
            .success()
            .with_context(|| format!("the plugins of {}", side.dir.display()))?;
        Ok(Added { took, result })
    }

    fn del(
        &self,
        side: &Side,
        plugin: &str,
        container: &Node,
        config: &Value,
        result: Value,
    ) -> Result<Duration> {
        let mut config = config.clone();
        config["prevResult"] = result;
        time(
            side.call(plugin, "DEL", container, &config)
                .run(&self.lan.host)?,
        )
    }

    /// Does something `rounds` times with each side, and as often without any, which has no samples
    /// for some of the steps. Which side begins changes from round to round.
    fn take_turns<const N: usize>(
        &self,
        rounds: usize,
        step: impl Fn(&Side) -> Result<[Duration; N]>,
        floor: impl Fn() -> Result<[Option<Duration>; N]>,
    ) -> Result<(Vec<Samples<N>>, Samples<N>)> {
        let none = || [const { Vec::new() }; N];
        let (mut samples, mut of_floor) = (vec![none(); self.sides.len()], none());
        let mut order: Vec<usize> = (0..self.sides.len()).collect();
        for _ in 0..rounds {
            for &side in &order {
                for (all, one) in samples[side].iter_mut().zip(step(&self.sides[side])?) {
                    all.push(one);
                }
            }
            for (all, one) in of_floor.iter_mut().zip(floor()?) {
                all.extend(one);
            }
            order.reverse();
        }
        Ok((samples, of_floor))
    }

    fn table(&self) -> Table {
        Table {
            has_others: self.sides.len() > 1,
        }
    }
}

/// An ADD.
struct Added {
    took: Duration,
    result: Value,
}

/// An attachment come and gone.
struct Attached {
    /// When ADD was started.
    begun: Instant,
    add: Duration,
    del: Duration,
}

impl Attached {
    fn times(&self) -> [Duration; 2] {
        [self.add, self.del]
    }
}

fn config() -> Value {
    json!({ "cniVersion": VERSION, "name": "bench", "type": "macvlan", "master": Lan::MASTER })
}

fn with_dhcp(mut config: Value, side: &Side) -> Value {
    config["ipam"] = json!({ "type": "dhcp", "daemonSocketPath": side.socket });
    config
}

/// How long a call took that must have succeeded.
fn time(outcome: Outcome) -> Result<Duration> {
    let took = outcome.took;
    outcome.success()?;
    Ok(took)
}

/// When the first message of this type was heard or sent.
fn moment(packets: &[Packet], kind: MessageType) -> Result<Instant> {
    let packet = packets.iter().find(|packet| packet.kind() == Some(kind));
    Ok(packet
        .with_context(|| format!("an ADD without {kind:?}"))?
        .at)
}
