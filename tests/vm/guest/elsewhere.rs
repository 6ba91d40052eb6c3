//! Tests of other suites that run on this kernel too, since the product depends on behaviour that
//! differs between kernels.

use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::{Result, Test, World, test};

use crate::{LINKNET, attach, guard, host_access, macvlan, networks};

/// Excluded tests, by the beginnings of their names.
const NOT_HERE: &[&str] = &[
    // Hundreds of ADDs, each under strace, take an emulated machine too long. `vlan::killed` has
    // some.
    "macvlan::crash::killed_at_any_syscall",
    "macvlan::faults::",
    "guard::random::",
    // So do thousands of addresses.
    "guard::verbs::addresses_that_keep_changing_do_not_stop_del",
    // Leases of seconds expire before a slow emulated machine renews them.
    "host_access::dhcp::",
    // Linux 6.5 introduced it.
    "macvlan::keys::the_broadcast_cutoff_is_as_configured",
    // The guest has no iptables.
    "macvlan::chain::works_before_portmap_and_firewall",
];

/// All of them.
pub(super) fn tests() -> Vec<Test> {
    let mut tests = [
        attach::TESTS,
        &macvlan::tests(),
        &guard::tests(),
        &host_access::tests(),
        &networks::tests(),
    ]
    .concat();
    for beginning in NOT_HERE {
        let before = tests.len();
        tests.retain(|test| !test.name().starts_with(beginning));
        assert!(tests.len() < before, "no test is called {beginning}");
    }
    tests.push(test!(linknets_tests_of_the_kernel_pass).within(Duration::from_secs(180)));
    tests
}

fn linknets_tests_of_the_kernel_pass(_: &World) -> Result {
    let mut suite = Command::new(LINKNET);
    // Linux 6.5 introduced it.
    suite.args(["--skip", "the_broadcast_cutoff_is_read_back"]);
    let status = suite.status().with_context(|| format!("start {LINKNET}"))?;
    ensure!(status.success(), "linknet's tests of the kernel: {status}");
    Ok(())
}
