//! The runner: every test in a process and a world of its own, under a deadline, with `cargo
//! test`'s own flags.
//!
//! A suite is a test binary with `harness = false`:
//!
//! ```ignore
//! mod renewal {
//!     pub const TESTS: &[Test] = &[
//!         test!(a_renewal_at_t1_is_unicast).needs(&[packages::IPROUTE2]),
//!         test!(a_nak_takes_the_address_away).within(Duration::from_secs(20)),
//!     ];
//!
//!     fn a_renewal_at_t1_is_unicast(world: &World) -> lab::Result {
//!         let lan = Lan::new()?; // `?` for what the test stands on,
//!         assert_eq!(renewal.source, address); // an assertion for what it is about: it says where it stands
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     Suite::new().plugin_dir(built_here).tests(renewal::TESTS).run()
//! }
//! ```
//!
//! A test that no list names is unused code, and the compiler says so. A test of real DHCP servers
//! is made for each of them by [`tests_of_each!`](crate::tests_of_each!).

use std::{
    backtrace::BacktraceStatus,
    env, fs,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{
    Result,
    deadline::{self, deadline},
    servers::{Kind, ServerTestFn},
    world::{self, World},
};

pub mod cnitool;
pub mod packages;
pub use packages::Package;

/// `argv[0]` of the process that runs one test.
const TEST: &str = "lab-test";

/// Names the directory of other plugins to run the suite against, for instance Debian's
/// `/usr/lib/cni`.
const PLUGIN_DIR: &str = "LEASEHOLD_PLUGIN_DIR";

/// A test function: what it needs of its world it makes there; an error or a panic fails it.
pub type TestFn = fn(&World) -> Result;

/// One test. Made by [`test!`](crate::test!).
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The module's path, and the crate's name before it.
    module: &'static str,
    function: &'static str,
    run: Run,
    needs: &'static [Package],
    within: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Alone(TestFn),
    With(&'static Kind, ServerTestFn),
}

impl Test {
    /// A test of a module, as `module_path!` writes it.
    pub const fn new(module: &'static str, function: &'static str, run: TestFn) -> Test {
        Test::of(module, function, Run::Alone(run))
    }

    /// A test that is run with a server, which is installed for it.
    pub(crate) const fn with_server(
        module: &'static str,
        function: &'static str,
        run: ServerTestFn,
        kind: &'static Kind,
    ) -> Test {
        Test::of(module, function, Run::With(kind, run))
    }

    const fn of(module: &'static str, function: &'static str, run: Run) -> Test {
        Test {
            module,
            function,
            run,
            needs: &[],
            within: Duration::from_secs(60),
        }
    }

    /// Packages that must be installed, or the run fails.
    #[must_use]
    pub const fn needs(self, needs: &'static [Package]) -> Test {
        Test { needs, ..self }
    }

    /// The deadline on an idle machine (see [`deadline`](crate::deadline())), kept by the runner,
    /// for a test that needs another than a minute.
    #[must_use]
    pub const fn within(self, within: Duration) -> Test {
        Test { within, ..self }
    }

    /// How the runner calls it: its path without the crate's name, the function's name preceded by
    /// the server's.
    pub fn name(&self) -> String {
        let function = match self.run {
            Run::Alone(_) => self.function.to_owned(),
            Run::With(kind, _) => format!("{}_{}", kind.name, self.function),
        };
        match self.module.split_once("::") {
            Some((_crate, module)) => format!("{module}::{function}"),
            None => function,
        }
    }

    fn packages(&self) -> impl Iterator<Item = Package> {
        let server = match self.run {
            Run::Alone(_) => None,
            Run::With(kind, _) => Some(kind.package),
        };
        self.needs.iter().copied().chain(server)
    }

    fn run(&self, world: &World) -> Result {
        match self.run {
            Run::Alone(run) => run(world),
            Run::With(kind, run) => run(world, kind),
        }
    }
}

/// The [`Test`](crate::Test) of a function in this module, named after it.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::Test::new(module_path!(), stringify!($function), $function)
    };
}

/// The tests of one binary.
#[derive(Debug, Default)]
pub struct Suite {
    tests: Vec<Test>,
    plugin_dir: Option<PathBuf>,
}

impl Suite {
    /// A suite without tests yet.
    pub fn new() -> Suite {
        Suite::default()
    }

    /// Adds a module's tests.
    #[must_use]
    pub fn tests(mut self, tests: &[Test]) -> Suite {
        self.tests.extend_from_slice(tests);
        self
    }

    /// The directory of the plugins under test, unless `LEASEHOLD_PLUGIN_DIR` names another.
    #[must_use]
    pub fn plugin_dir(mut self, dir: impl Into<PathBuf>) -> Suite {
        self.plugin_dir = Some(dir.into());
        self
    }

    /// The whole of `main`: runs what the command line asks for. To be called while there is one
    /// thread.
    pub fn run(self) -> ExitCode {
        let other = env::var_os(PLUGIN_DIR)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        if let Some(dir) = other.as_ref().or(self.plugin_dir.as_ref()) {
            PLUGINS.set(dir.clone()).expect("a process runs one suite");
        }
        if world::entering() || env::args_os().next().is_some_and(|name| name == TEST) {
            self.run_one()
        } else {
            self.run_all(other)
        }
    }

    /// The child's side: enters a world, runs the one test that the command line names, tells the
    /// verdict.
    fn run_one(&self) -> ExitCode {
        let world = match world::enter() {
            Ok(world) => world,
            Err(error) => {
                Verdict::Failed(format!("{error:#}")).tell();
                return ExitCode::FAILURE;
            }
        };
        let name = env::args().nth(1).unwrap_or_default();
        let test = self
            .tests
            .iter()
            .chain([&PROBE])
            .find(|test| test.name() == name);
        let test = test.expect("the runner names a test that it has");
        let verdict = match catch_unwind(AssertUnwindSafe(|| test.run(&world))) {
            Ok(Ok(())) => Verdict::Passed,
            Ok(Err(error)) => {
                if error.backtrace().status() == BacktraceStatus::Captured {
                    eprintln!("{}", error.backtrace());
                }
                Verdict::Failed(format!("{error:#}"))
            }
            Err(panic) => Verdict::Failed(panic_text(&*panic)),
        };
        verdict.tell();
        match verdict {
            Verdict::Passed => ExitCode::SUCCESS,
            Verdict::Failed(_) if world::keep() => loop {
                thread::park();
            },
            Verdict::Failed(_) => ExitCode::FAILURE,
        }
    }

    /// The runner's side: a libtest-mimic trial for each test.
    fn run_all(self, other_plugins: Option<PathBuf>) -> ExitCode {
        let mut arguments = Arguments::from_args();
        // Tests spend most of their time waiting for packets and for timers of whole seconds.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        arguments.test_threads.get_or_insert(2 * cores);

        let failures = Arc::new(Mutex::new(Vec::new()));
        let mut needs = Vec::new();
        let mut trials = Vec::new();
        for test in self.tests {
            let (failures, capture) = (Arc::clone(&failures), !arguments.nocapture);
            let trial = Trial::test(test.name(), move || {
                run_in_child(&test, deadline(test.within), capture).map_err(|failure| {
                    failures
                        .lock()
                        .expect("no trial panics")
                        .push((test.name(), failure.reason.clone()));
                    Failed::from(failure)
                })
            });
            if !arguments.is_filtered_out(&trial) {
                needs.extend(test.packages());
            }
            trials.push(trial);
        }
        if !arguments.list
            && let Err(reason) = prepare(&needs)
        {
            eprintln!("error: {reason}");
            return ExitCode::FAILURE;
        }
        let conclusion = libtest_mimic::run(&arguments, trials);
        if let Some(dir) = other_plugins
            && !arguments.list
        {
            let failures = failures.lock().expect("no trial panics");
            let run = conclusion.num_passed + conclusion.num_failed;
            println!(
                "with the plugins in {}, {} of {run} tests fail:",
                dir.display(),
                failures.len()
            );
            for (name, reason) in failures.iter() {
                println!("- {name}: {}", reason.lines().next().unwrap_or_default());
            }
        }
        conclusion.exit_code()
    }
}

/// The directory of the plugins under test, as given to [`Suite::plugin_dir`] or by
/// `LEASEHOLD_PLUGIN_DIR`.
///
/// # Panics
/// In a suite that has none.
pub fn plugin_dir() -> &'static std::path::Path {
    PLUGINS
        .get()
        .expect("this suite was given a plugin directory")
}

/// True when the suite runs against other plugins, for a test that only applies to ours.
pub fn other_plugins() -> bool {
    env::var_os(PLUGIN_DIR).is_some_and(|dir| !dir.is_empty())
}

static PLUGINS: OnceLock<PathBuf> = OnceLock::new();

/// The verdict of a test's process, sent over the socket that is its standard input. The exit status
/// would come too late where a failed test's world is kept.
#[derive(Debug)]
enum Verdict {
    Passed,
    Failed(String),
}

impl Verdict {
    fn tell(&self) {
        let text = match self {
            Verdict::Passed => "passed",
            Verdict::Failed(reason) => &format!("failed{reason}"),
        };
        // A runner that no longer listens has had its verdict.
        let _ = std::io::stdin().as_fd().try_clone_to_owned().map(|stdin| {
            let mut runner = UnixStream::from(stdin);
            runner
                .write_all(text.as_bytes())
                .and_then(|()| runner.shutdown(std::net::Shutdown::Both))
        });
    }

    fn parse(text: &str) -> Option<Verdict> {
        match text {
            "passed" => Some(Verdict::Passed),
            _ => text
                .strip_prefix("failed")
                .map(|reason| Verdict::Failed(reason.to_owned())),
        }
    }
}

struct Failure {
    reason: String,
    output: String,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure {
            reason: format!("{error:#}"),
            output: String::new(),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::from(format!("{}\n{}", failure.output, failure.reason))
    }
}

/// A test that needs no more than a world. How long it takes says how fast the machine is.
const PROBE: Test = Test::new("lab", "probe", |_| Ok(()));

/// Bounds the probe before it is known how fast the machine is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(300);

/// Finds the problems that would fail every test, so that they are reported once, and measures the
/// machine.
fn prepare(needs: &[Package]) -> std::result::Result<(), String> {
    let mut probes = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        run_in_child(&PROBE, PROBE_TIMEOUT, true)
            .map_err(|Failure { output, reason }| output + &reason)?;
        probes.push(started.elapsed());
    }
    probes.sort_unstable();
    deadline::calibrate(probes[1]);
    packages::ensure(needs).map_err(|error| format!("{error:#}"))
}

fn run_in_child(test: &Test, within: Duration, capture: bool) -> std::result::Result<(), Failure> {
    let (runner, child_end) = UnixStream::pair().context("make a socket pair")?;
    runner
        .set_read_timeout(Some(within))
        .context("set the deadline")?;
    // A file, not a pipe, which would have to be drained and kept open by orphans.
    let output = memfd_create(c"output", MFdFlags::MFD_CLOEXEC)
        .context("make a file for the test's output")?;
    let mut output = fs::File::from(output);

    let mut command = Command::new(world::SELF);
    command
        .arg0(TEST)
        .arg(test.name())
        .stdin(OwnedFd::from(child_end));
    if let Some(factor) = deadline::calibrated() {
        command.env(deadline::VARIABLE, factor.to_string());
    }
    if capture {
        command.stdout(output.try_clone().context("share the output file")?);
        command.stderr(output.try_clone().context("share the output file")?);
    }
    let mut child = command.spawn().context("start the test's process")?;
    drop(command); // and with it our copy of the child's end of the socket

    let mut text = String::new();
    let in_time = (&runner).read_to_string(&mut text).is_ok();
    let reason = match Verdict::parse(&text) {
        Some(Verdict::Passed) => {
            child.wait().context("wait for the test's process")?;
            return Ok(());
        }
        Some(Verdict::Failed(reason)) => reason,
        // Nobody is left to tell.
        None if in_time => {
            format!(
                "the test's process died: {}",
                child.wait().context("wait for the test's process")?
            )
        }
        None => format!("the test did not end within {within:?}"),
    };
    if !world::keep() {
        let _ = child.kill(); // the world goes with it; an error means that it has gone already
        child.wait().context("wait for the test's process")?;
    }
    Err(failure(reason, &mut output))
}

fn failure(reason: String, output: &mut fs::File) -> Failure {
    let mut bytes = Vec::new();
    // What cannot be read is missing from the report, the reason is not.
    let _ = output
        .rewind()
        .and_then(|()| output.read_to_end(&mut bytes));
    Failure {
        reason,
        output: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref().copied());
    text.unwrap_or("panicked").to_owned()
}
