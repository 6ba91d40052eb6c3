//! What the runner makes of tests that fail. It runs this very binary, inside the world of the
//! test, with the tests of [`FAULTY_TESTS`] in place of the others.

use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lab::{
    Result, Test, World,
    anyhow::{Context, bail},
    deadline,
    suite::Package,
    test, until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) const TESTS: &[Test] = &[
    test!(failures_are_reported_with_their_output),
    test!(a_test_is_chosen_by_its_exact_name),
    test!(tests_are_listed_for_nextest),
    test!(a_hanging_test_ends_at_its_deadline_with_all_it_started),
    test!(a_missing_package_fails_the_run),
    test!(a_failed_tests_world_is_kept_on_request),
    test!(failures_of_other_plugins_are_summarized),
];

/// Whether this process is the one with the faulty tests.
pub(crate) fn is_faulty() -> bool {
    env::var_os("SELFTEST_FAULTY").is_some()
}

const HANG_TIMEOUT: Duration = Duration::from_millis(300);

pub(crate) const FAULTY_TESTS: &[Test] = &[
    test!(passes),
    test!(fails),
    test!(panics),
    test!(vanishes),
    test!(hangs).within(HANG_TIMEOUT),
    test!(wants_what_there_is_not).needs(&[Package::new("no-such-package", "/no/such/file")]),
];

fn passes(_: &World) -> Result {
    println!("a test that passes says nothing");
    Ok(())
}

fn fails(_: &World) -> Result {
    println!("printed before");
    Err(lab::anyhow::anyhow!("the cause").context("the effect"))
}

fn panics(_: &World) -> Result {
    panic!("in a panic");
}

fn vanishes(_: &World) -> Result {
    std::process::exit(42);
}

fn hangs(_: &World) -> Result {
    Command::new("sleep").arg("1234567").spawn()?;
    loop {
        thread::park();
    }
}

fn wants_what_there_is_not(_: &World) -> Result {
    bail!("never run")
}

fn failures_are_reported_with_their_output(_: &World) -> Result {
    let (passed, output) = run(&["--skip", "hangs", "--skip", "wants"], &[])?;
    assert!(!passed);
    for line in [
        "runner::passes   ... ok",
        "runner::fails    ... FAILED",
        "printed before",
        "the effect: the cause",
        "in a panic",
        "the test's process died: exit status: 42",
        "1 passed; 3 failed",
    ] {
        assert!(output.contains(line), "no {line:?} in\n{output}");
    }
    assert!(!output.contains("says nothing"), "{output}");
    Ok(())
}

fn a_test_is_chosen_by_its_exact_name(_: &World) -> Result {
    let (passed, output) = run(&["--exact", "runner::passes"], &[])?;
    assert!(passed && output.contains("1 passed; 0 failed"), "{output}");
    Ok(())
}

fn tests_are_listed_for_nextest(_: &World) -> Result {
    let (passed, output) = run(&["--list", "--format", "terse"], &[])?;
    assert!(
        passed && output.lines().count() == FAULTY_TESTS.len(),
        "{output}"
    );
    assert!(
        output.lines().any(|line| line == "runner::passes: test"),
        "{output}"
    );
    Ok(())
}

fn a_hanging_test_ends_at_its_deadline_with_all_it_started(_: &World) -> Result {
    let (passed, output) = run(&["hangs"], &[])?;
    let expected = format!("the test did not end within {:?}", deadline(HANG_TIMEOUT));
    assert!(!passed && output.contains(&expected), "{output}");
    // Killing a pid namespace takes a moment longer than the death of its pid 1.
    until("its processes are gone", Duration::from_secs(5), || {
        !is_anyone_sleeping()
    })
}

fn a_missing_package_fails_the_run(_: &World) -> Result {
    // Without a PATH there is no apt-get, not even for root.
    let (passed, output) = run(&[], &[("PATH", "")])?;
    assert!(
        !passed && output.contains("not installed: no-such-package\n"),
        "{output}"
    );
    assert!(
        !output.contains("runner::passes"),
        "nothing is run: {output}"
    );
    let (passed, _) = run(&["passes"], &[("PATH", "")])?;
    assert!(passed, "what is not selected needs nothing");
    Ok(())
}

fn a_failed_tests_world_is_kept_on_request(_: &World) -> Result {
    let (passed, output) = run(&["runner::fails", "--exact"], &[("LAB_KEEP", "1")])?;
    assert!(!passed);
    let (_, pid) = output
        .split_once("to enter this world: nsenter --target ")
        .context(output.clone())?;
    let pid = Pid::from_raw(pid.split(' ').next().unwrap_or_default().parse()?);
    kill(pid, Signal::SIGTERM).context("it is still there")?;
    until("it is gone", Duration::from_secs(5), || {
        kill(pid, None).is_err()
    })?;

    let (passed, _) = run(&["runner::passes", "--exact"], &[("LAB_KEEP", "1")])?;
    assert!(passed);
    Ok(())
}

fn failures_of_other_plugins_are_summarized(_: &World) -> Result {
    let (passed, output) = run(
        &["--skip", "hangs", "--skip", "wants"],
        &[("LEASEHOLD_PLUGIN_DIR", "/usr/lib/others")],
    )?;
    assert!(!passed);
    let summary = "with the plugins in /usr/lib/others, 3 of 4 tests fail:\n";
    let (_, failures) = output.split_once(summary).context(output.clone())?;
    assert!(
        failures.contains("- runner::fails: the effect: the cause\n"),
        "{output}"
    );
    Ok(())
}

/// Runs the faulty suite: whether it passed, and all of its output.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(bool, String)> {
    let output = Command::new("/proc/self/exe")
        .args(arguments)
        .env("SELFTEST_FAULTY", "1")
        .env_remove("LAB_KEEP")
        .env_remove("LEASEHOLD_PLUGIN_DIR")
        .env_remove("RUST_BACKTRACE")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

fn is_anyone_sleeping() -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|words| words == b"sleep\x001234567\0")
}
