//! Outside: what makes the virtual machine, and hears of its end.

mod initramfs;
mod kernel;
mod machine;

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use lab::Result;
use lab::anyhow::Context;
use lab::doomed::STRACE;
use lab::suite::Package;
use lab::suite::packages::{self, GO_PLUGINS, IPROUTE2};

use self::initramfs::Initramfs;
use self::kernel::Kernel;
use self::machine::Machine;
use crate::{INIT, MODULES, PLUGINS, guest};

const NEEDS: &[Package] = &[
    Package::new("qemu-system-x86", "qemu-system-x86_64"),
    Package::new("kmod", "modinfo"),
    Package::new("busybox-static", "busybox"),
    STRACE,
    IPROUTE2,
    GO_PLUGINS,
];

/// Runs the suite in a guest. The arguments are passed on to it.
pub(crate) fn run() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--list" | "--help" | "-h")) {
        return guest::suite().run();
    }
    // Whether there is a terminal at the end of it, the guest cannot know.
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
    furnished(&kernel)?.write(&initramfs).context("write the initramfs")?;
    println!("{} boots after {:.1?}", kernel.version, started.elapsed());
    let machine = Machine { kernel: &kernel.image, initramfs: &initramfs, arguments };
    let passed = machine.run(folder.path())?;
    println!(
        "the virtual machine has {}, after {:.1?}",
        if passed { "passed" } else { "failed" },
        started.elapsed()
    );
    Ok(passed)
}

/// All that the guest has.
fn furnished(kernel: &Kernel) -> Result<Initramfs> {
    let mut tree = Initramfs::default();
    for directory in ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib", "/etc"] {
        tree.directory(directory);
    }
    tree.program(&env::current_exe()?, INIT)?;
    for plugin in [env!("CARGO_BIN_EXE_macvlan"), env!("CARGO_BIN_EXE_dhcp")].map(Path::new) {
        let name = plugin.file_name().context("a program has a name")?;
        tree.program(plugin, Path::new(PLUGINS).join(name))?;
    }
    for name in ["static", "host-local"] {
        let plugin = Path::new(lab::plugin::DEBIANS_PLUGINS).join(name);
        tree.program(&plugin, &plugin)?;
    }
    for name in ["busybox", "ip", "strace"] {
        let program = packages::find_program(name).with_context(|| format!("no {name}"))?;
        tree.program(&program, Path::new("/usr/bin").join(name))?;
    }
    for name in ["sh", "cat"] {
        tree.link(Path::new("/bin").join(name), "/usr/bin/busybox");
    }
    for (place, module) in kernel.modules()?.iter().enumerate() {
        let name = module.file_name().context("a module has a name")?;
        tree.file(Path::new(MODULES).join(format!("{place:02}-{}", name.display())), std::fs::read(module)?);
    }
    Ok(tree)
}
