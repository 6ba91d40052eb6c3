//! What our plugins cost in units that no noise touches: octets of the programs and of the daemon's
//! memory, instructions, and system calls. `today.txt` says how much that is, and this fails if anything has grown by more
//! than 3 %.
//!
//! ```text
//! cargo bench --bench budgets --target x86_64-unknown-linux-musl
//! LEASEHOLD_WRITE_BUDGETS=1 cargo bench --bench budgets --target x86_64-unknown-linux-musl
//! ```
//!
//! The second command replaces the file by what it measures. The numbers are those of one compiler:
//! another version may change them all.

mod budget;
mod instructions;
mod memory;
mod system_calls;
mod tasks;

// What the benchmark `scale` makes its crowd of leases with.
#[path = "../scale/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "scale does more with it")]
#[path = "../scale/side.rs"]
mod side;
#[path = "../scale/site.rs"]
mod site;
#[allow(dead_code, reason = "scale measures more")]
#[path = "../scale/usage.rs"]
mod usage;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lab::Result;
use lab::anyhow::Context;
use lab::crash_injector::STRACE;
use lab::suite::Package;
use lab::suite::packages;

use budget::{Budget, Verdict};
use site::Site;

const NEEDS: &[Package] = &[STRACE, Package::new("valgrind", "valgrind")];

/// Replaces the file by what is measured.
const WRITE: &str = "LEASEHOLD_WRITE_BUDGETS";

fn main() -> ExitCode {
    // Under valgrind this program is its own subject.
    if let Some((task, times)) = tasks::asked_for() {
        tasks::run(&task, times);
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing has grown.
fn run() -> Result<bool> {
    packages::ensure(NEEDS)?;
    let measured = measure()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/budgets/today.txt");
    if env::var_os(WRITE).is_some_and(|value| !value.is_empty()) {
        fs::write(&file, budget::write(&measured)).context("write the budgets")?;
        println!("wrote {}", file.display());
        return Ok(true);
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let verdicts = budget::compare(&budget::read(&text)?, &measured);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    Ok(verdicts.iter().all(Verdict::is_kept))
}

/// Everything that has a budget.
fn measure() -> Result<Vec<Budget>> {
    let mut budgets = Vec::new();
    for (name, program) in programs() {
        let size = fs::metadata(&program)?.len();
        budgets.push(Budget::new(size, format!("octets of the program {name}")));
        let instructions = instructions::of_version(&program)?;
        let what = format!("instructions of {name} VERSION");
        budgets.push(Budget::new(instructions, what));
    }
    for task in tasks::ALL {
        let instructions = instructions::of_task(task.name)?;
        let what = format!("instructions to {}", task.name);
        budgets.push(Budget::new(instructions, what));
    }
    let world = lab::world::enter()?;
    let site = Site::new()?;
    budgets.extend(system_calls::measure(&world, &site.lan)?);
    budgets.push(memory::measure(&world, &site)?);
    Ok(budgets)
}

/// The programs, as cargo has built them for this benchmark.
fn programs() -> [(&'static str, PathBuf); 2] {
    [
        ("macvlan", env!("CARGO_BIN_EXE_macvlan")),
        ("dhcp", env!("CARGO_BIN_EXE_dhcp")),
    ]
    .map(|(name, path)| (name, PathBuf::from(path)))
}
