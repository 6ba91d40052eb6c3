//! The host's side: makes the virtual machine and waits for its verdict.

mod initramfs;
mod kernel;
mod machine;

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use lab::Result;
use lab::anyhow::{Context, ensure};
use lab::crash_injector::STRACE;
use lab::serde_json::{self, Value};
use lab::suite::Package;
use lab::suite::packages::{self, GO_PLUGINS, IPROUTE2};

use self::initramfs::Initramfs;
use self::kernel::Kernel;
use self::machine::Machine;
use crate::{INIT, LINKNET, MODULES, PLUGINS, guest};

const NEEDS: &[Package] = &[
    Package::new("qemu-system-x86", "qemu-system-x86_64"),
    Package::new("kmod", "modinfo"),
    STRACE,
    IPROUTE2,
    GO_PLUGINS,
    Package::new("nftables", "nft"),
];

/// Runs the suite in a guest. The arguments are passed on to it.
pub(crate) fn run() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|argument| matches!(argument.as_str(), "--list" | "--help" | "-h"))
    {
        return guest::suite().run();
    }
    // The guest cannot know whether its output ends at a terminal.
    if !io::stdout().is_terminal() {
        arguments.insert(0, "--color=never".to_owned());
    }
    match run_guest(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all tests passed.
fn run_guest(arguments: &[String]) -> Result<bool> {
    let started = Instant::now();
    packages::ensure(NEEDS)?;
    let kernel = Kernel::fetch()?;
    let folder = tempfile::tempdir()?;
    let initramfs = folder.path().join("initramfs");
    furnished(&kernel)?
        .write(&initramfs)
        .context("write the initramfs")?;
    println!("{} boots after {:.1?}", kernel.version, started.elapsed());
    let machine = Machine {
        kernel: &kernel.image,
        initramfs: &initramfs,
        arguments,
    };
    let passed = machine.run(folder.path())?;
    println!(
        "the virtual machine has {}, after {:.1?}",
        if passed { "passed" } else { "failed" },
        started.elapsed()
    );
    Ok(passed)
}

/// linknet's tests of what only a kernel can tell, built as `cargo test --workspace` does.
fn linknet_kernel_suite() -> Result<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "test",
        "--workspace",
        "--test",
        "kernel",
        "--no-run",
        "--message-format=json",
    ]);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = command.output().context("cargo")?;
    ensure!(
        output.status.success(),
        "building linknet's tests failed: {}",
        output.status
    );
    let messages = output.stdout.split(|&octet| octet == b'\n');
    let mut built = messages.filter_map(|message| serde_json::from_slice::<Value>(message).ok());
    // Another crate has a suite of this name too.
    let suite = built.find(|message| {
        let source = message["target"]["src_path"].as_str().unwrap_or_default();
        source.contains("/crates/linknet/tests/kernel/") && message["executable"].is_string()
    });
    let suite = suite.context("cargo has told of no program")?;
    Ok(suite["executable"].as_str().unwrap_or_default().into())
}

/// The guest's whole file system.
fn furnished(kernel: &Kernel) -> Result<Initramfs> {
    let mut tree = Initramfs::default();
    for directory in ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib", "/etc"] {
        tree.directory(directory);
    }
    // A test mounts another one in its place.
    tree.file("/etc/resolv.conf", Vec::new());
    tree.program(&env::current_exe()?, INIT)?;
    for plugin in [env!("CARGO_BIN_EXE_macvlan"), env!("CARGO_BIN_EXE_dhcp")].map(Path::new) {
        let name = plugin.file_name().context("a program has a name")?;
        tree.program(plugin, Path::new(PLUGINS).join(name))?;
    }
    for name in [
        "host-local",
        "loopback",
        "macvlan",
        "sbr",
        "static",
        "tuning",
        "vrf",
    ] {
        let plugin = Path::new(lab::plugin::DEBIANS_PLUGINS).join(name);
        tree.program(&plugin, &plugin)?;
    }
    for name in [
        "bridge", "cat", "ip", "nft", "nsenter", "readlink", "sh", "sleep", "strace", "unshare",
    ] {
        let program = packages::find_program(name).with_context(|| format!("no {name}"))?;
        tree.program(&program, Path::new("/bin").join(name))?;
    }
    tree.program(&linknet_kernel_suite()?, LINKNET)?;
    for (place, module) in kernel.modules()?.iter().enumerate() {
        let name = module.file_name().context("a module has a name")?;
        tree.file(
            Path::new(MODULES).join(format!("{place:02}-{}", name.display())),
            std::fs::read(module)?,
        );
    }
    Ok(tree)
}
