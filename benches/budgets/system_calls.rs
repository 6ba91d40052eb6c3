//! System calls of the plugins, counted by strace.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::plugin::Call;
use lab::serde_json::json;
use lab::{Daemon, DhcpServer, Lan, Result, World};

use crate::budget::Budget;
use crate::programs;

/// How often each is counted. The least counts: a plugin that waits looks more often on a busy
/// machine.
const ROUNDS: usize = 5;

/// Of ADD and DEL, with and without an address, those of the IPAM plugin's process included.
pub(crate) fn measure() -> Result<Vec<Budget>> {
    let world = lab::world::enter()?;
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let [(_, macvlan), (_, dhcp)] = programs();
    let daemon = Daemon::start_program(&world, &lan.host, &dhcp, &[])?;
    let plain =
        json!({ "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": Lan::MASTER });
    let mut leased = plain.clone();
    leased["ipam"] = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let folder = macvlan.parent().context("a program is in a directory")?;
    let program = counted(&world, &macvlan)?;
    let container = lan.container("c1")?;

    let mut budgets = Vec::new();
    for (name, mut config) in [("macvlan", plain), ("macvlan with dhcp", leased)] {
        let mut least = [u64::MAX; 2];
        for _ in 0..ROUNDS {
            for (place, verb) in ["ADD", "DEL"].into_iter().enumerate() {
                let call = Call::of(&program, &[folder], verb)
                    .container(container.name())
                    .netns(container.path())
                    .ifname("eth0")
                    .config(&config);
                let result = call.run(&lan.host)?.success()?;
                config["prevResult"] = result; // DEL has none
                least[place] = least[place].min(total(&world)?);
            }
        }
        for (verb, count) in ["ADD", "DEL"].into_iter().zip(least) {
            budgets.push(Budget::new(
                count,
                format!("system calls of {verb}, {name}"),
            ));
        }
    }
    Ok(budgets)
}

/// A program that runs the plugin under strace, which writes how many calls there were.
fn counted(world: &World, plugin: &Path) -> Result<std::path::PathBuf> {
    let program = world.dir().join("macvlan-counted");
    let script = format!(
        "#!/bin/sh\nexec strace -f -c -o {} {}\n",
        summary(world).display(),
        plugin.display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

fn summary(world: &World) -> std::path::PathBuf {
    world.dir().join("summary")
}

/// The last line of strace's summary: percent, seconds, microseconds for each, calls, perhaps
/// errors, and "total".
fn total(world: &World) -> Result<u64> {
    let text = fs::read_to_string(summary(world))?;
    let line = text.lines().last().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words.last() == Some(&"total"), "no summary: {text}");
    let calls = words.get(3).context("a number of calls")?;
    Ok(calls.parse()?)
}
