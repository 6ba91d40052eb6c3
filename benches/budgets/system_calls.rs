//! System calls of the plugins and of the daemon, counted by strace.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::plugin::Call;
use lab::serde_json::json;
use lab::{Daemon, Lan, Result, World, until};

use crate::budget::Budget;
use crate::programs;

/// How often each is counted. The least counts: a plugin that waits looks more often on a busy
/// machine.
const ROUNDS: usize = 5;

const WITH_DHCP: &str = "macvlan with dhcp";

/// How long the daemon may be busy after an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of ADD and DEL, with and without an address.
pub(crate) fn measure(world: &World, lan: &Lan) -> Result<Vec<Budget>> {
    let [(_, macvlan), (_, dhcp)] = programs();
    let traced = traced(world, &dhcp)?;
    let daemon = Daemon::start_program(world, &lan.host, &traced, &[])?;
    let plain =
        json!({ "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": Lan::MASTER });
    let mut leased = plain.clone();
    leased["ipam"] = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let folder = macvlan.parent().context("a program is in a directory")?;
    let program = counted(world, &macvlan)?;
    let container = lan.container("c1")?;

    let mut budgets = Vec::new();
    for (name, mut config) in [("macvlan", plain), (WITH_DHCP, leased)] {
        let mut least = [u64::MAX; 2];
        let mut least_of_daemon = [u64::MAX; 2];
        for _ in 0..ROUNDS {
            for (place, verb) in ["ADD", "DEL"].into_iter().enumerate() {
                let before = calls_of_daemon(world)?;
                let call = Call::of(&program, &[folder], verb)
                    .container(container.name())
                    .netns(container.path())
                    .ifname("eth0")
                    .config(&config);
                let result = call.run(&lan.host)?.success()?;
                config["prevResult"] = result; // DEL has none
                least[place] = least[place].min(total(world)?);
                let of_daemon = calls_of_daemon(world)? - before;
                least_of_daemon[place] = least_of_daemon[place].min(of_daemon);
            }
        }
        for (verb, count) in ["ADD", "DEL"].into_iter().zip(least) {
            let what = format!("system calls of {verb}, {name}");
            budgets.push(Budget::new(count, what));
        }
        // Without it the daemon hears of a link at most.
        if name == WITH_DHCP {
            for (verb, count) in ["ADD", "DEL"].into_iter().zip(least_of_daemon) {
                let what = format!("system calls of the daemon for {verb}");
                budgets.push(Budget::new(count, what));
            }
        }
    }
    Ok(budgets)
}

/// The daemon under strace, which lists the calls of its main thread.
fn traced(world: &World, dhcp: &Path) -> Result<PathBuf> {
    let command = format!("-o {} {} \"$@\"", calls(world).display(), dhcp.display());
    script(world, "dhcp-traced", &command)
}

fn calls(world: &World) -> PathBuf {
    world.dir().join("calls")
}

/// How many calls the daemon has made by the time that it waits for something to do.
fn calls_of_daemon(world: &World) -> Result<u64> {
    let mut listed = String::new();
    until("the daemon waits", PATIENCE, || {
        let now = fs::read_to_string(calls(world)).unwrap_or_default();
        let waits = now
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("epoll_pwait("));
        let is_quiet = waits && !now.ends_with('\n') && now == listed;
        listed = now;
        is_quiet
    })?;
    Ok(listed.lines().count() as u64)
}

/// A program that runs the plugin under strace, which writes how many calls there were.
fn counted(world: &World, plugin: &Path) -> Result<PathBuf> {
    let command = format!("-f -c -o {} {}", summary(world).display(), plugin.display());
    script(world, "macvlan-counted", &command)
}

/// A program of this name that runs strace.
fn script(world: &World, name: &str, arguments: &str) -> Result<PathBuf> {
    let program = world.dir().join(name);
    fs::write(&program, format!("#!/bin/sh\nexec strace {arguments}\n"))?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

fn summary(world: &World) -> PathBuf {
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
