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
    cmp::Reverse,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    deadline::{self, deadline},
    world,
};

mod child;
pub mod cnitool;
pub mod netavark;
pub mod packages;
mod test;

pub use packages::Package;
pub use test::{Test, TestFn};

use child::{Failure, Verdict, panic_text, run_in_child};

/// `argv[0]` of the process that runs one test.
const TEST: &str = "lab-test";

/// Names the directory of other plugins to run the suite against, for instance Debian's
/// `/usr/lib/cni`.
const PLUGIN_DIR: &str = "LEASEHOLD_PLUGIN_DIR";

/// The tests of one binary.
#[derive(Debug, Default)]
pub struct Suite {
    tests: Vec<Test>,
    plugin_dir: Option<PathBuf>,
    afterwards: Option<fn()>,
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

    /// What to do once all tests have ended, for instance remove what they shared.
    /// Not done when `LAB_KEEP` asks for the worlds of failed tests to stay.
    #[must_use]
    pub fn afterwards(mut self, afterwards: fn()) -> Suite {
        self.afterwards = Some(afterwards);
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
    fn run_all(mut self, other_plugins: Option<PathBuf>) -> ExitCode {
        let mut arguments = Arguments::from_args();
        // Tests spend most of their time waiting for packets and for timers of whole seconds.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        arguments.test_threads.get_or_insert(4 * cores);

        // The longest first, so that none is left to run alone at the end.
        self.tests.sort_by_key(|test| Reverse(test.within));
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
        if let Some(afterwards) = self.afterwards.filter(|_| !world::keep()) {
            afterwards();
        }
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

/// A test that needs no more than a world. How long it takes says how fast the machine is.
const PROBE: Test = Test::new("lab", "probe", |_| Ok(()));

/// Bounds the probe before it is known how fast the machine is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(300);

/// Finds the problems that would fail every test, so that they are reported once, and measures the
/// machine.
fn prepare(needs: &[Package]) -> Result<(), String> {
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
