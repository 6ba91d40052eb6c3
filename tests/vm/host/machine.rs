//! The virtual machine: qemu, without hardware's help, so that it runs where virtualisation is not
//! to be had: in containers, on build machines that are virtual themselves.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::{Result, deadline};

/// Bounds the run of a guest that hangs. Its tests have deadlines of their own.
const MACHINE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The kernel writes its messages to the serial port and stops at its first bug. The other options
/// save an emulated machine most of its time: programs run at the same addresses each time, so that
/// qemu can reuse what it has translated (three times as fast), the processor's clock is the only
/// one, and users' secrets are not protected from one another.
const KERNEL_OPTIONS: &str =
    "console=ttyS0 loglevel=4 oops=panic panic=-1 norandmaps tsc=reliable mitigations=off";

pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Of `/init`.
    pub(super) arguments: &'a [String],
}

impl Machine<'_> {
    /// Boots it, shows what it says, and waits for its end. Whether all tests passed.
    ///
    /// # Errors
    /// When it hangs, panics or reboots: when it ends without having said on its second serial port
    /// what came of the tests.
    pub(super) fn run(&self, folder: &Path) -> Result<bool> {
        let verdict = folder.join("verdict");
        let mut machine = self.command(&verdict)?.spawn().context("start qemu")?;
        let console = machine.stdout.take().context("qemu has an output")?;
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(show(console)));
        let timeout = deadline(MACHINE_TIMEOUT);
        let shown = end.recv_timeout(timeout);
        if shown.is_err() {
            machine.kill()?;
        }
        let status = machine.wait()?;
        match shown {
            Ok(shown) => shown.context("show what the virtual machine says")?,
            Err(_) => bail!("the virtual machine did not end within {timeout:?}"),
        }
        ensure!(status.success(), "qemu: {status}");
        match fs::read_to_string(&verdict)?.as_str() {
            "passed" => Ok(true),
            "failed" => Ok(false),
            other => {
                bail!("the virtual machine ended before the tests did (its verdict: {other:?})")
            }
        }
    }

    fn command(&self, verdict: &Path) -> Result<Command> {
        // Two processors or more, so that what happens at once does so here too.
        let processors = thread::available_parallelism()
            .map_or(2, usize::from)
            .clamp(2, 4)
            .to_string();
        // qemu would outlive us if we were killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        command.args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-machine",
            "q35",
            "-m",
            "1G",
            "-smp",
            &processors,
        ]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command
            .args(["-serial", "stdio", "-serial"])
            .arg(format!("file:{}", verdict.display()));
        command
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs);
        command
            .arg("-append")
            .arg(format!("{KERNEL_OPTIONS} -- {}", quoted(self.arguments)?));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }
}

/// Arguments as the kernel takes its command line apart, after whose `--` the rest is `/init`'s.
fn quoted(arguments: &[String]) -> Result<String> {
    let quoted = arguments.iter().map(|argument| {
        ensure!(
            !argument.contains('"'),
            "{argument}: the kernel has no way to pass on quotation marks"
        );
        Ok(format!("\"{argument}\""))
    });
    Ok(quoted.collect::<Result<Vec<_>>>()?.join(" "))
}

/// Copies to our own output, without the carriage returns of a serial line.
fn show(mut console: ChildStdout) -> io::Result<()> {
    let mut output = io::stdout();
    let mut buffer = [0; 4096];
    loop {
        let length = console.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let text: Vec<u8> = buffer[..length]
            .iter()
            .copied()
            .filter(|&octet| octet != b'\r')
            .collect();
        output.write_all(&text)?;
        output.flush()?;
    }
}
