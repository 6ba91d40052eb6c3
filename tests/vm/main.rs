//! The suite for which the machine's own kernel will not do: Debian's, in a virtual machine, has
//! VLANs, VRFs, bonds, ipvlan and dummies whatever runs underneath, and is an old one. `cargo test
//! --test vm`, as root or as anybody.
//!
//! This one program is both sides. On the [`host`] it builds an initramfs, with itself as `/init`,
//! and boots it under qemu; the [`guest`] runs the tests as any other suite of `lab`'s, each in a
//! world of its own.

mod guest;
mod host;

// Parts of the end-to-end suite that ask most of the kernel, which is an older one here.
#[path = "../e2e/attach.rs"]
mod attach;
#[path = "../e2e/chains.rs"]
#[allow(dead_code, reason = "only a VRF needs this kernel")]
mod chains;
#[path = "../e2e/guard/mod.rs"]
mod guard;
#[path = "../e2e/host_access/mod.rs"]
mod host_access;
#[path = "../e2e/macvlan/mod.rs"]
mod macvlan;
#[path = "../e2e/networks/mod.rs"]
mod networks;
#[path = "../e2e/scenario.rs"]
#[allow(dead_code, reason = "the other parts use the rest")]
mod scenario;

use std::env;
use std::path::Path;
use std::process::ExitCode;

/// What the kernel starts first, and what all of the guest's tests are run from.
const INIT: &str = "/init";

/// Where the guest has the plugins under test.
const PLUGINS: &str = "/opt/cni/bin";

/// Where it has linknet's tests of the kernel, a suite of their own.
const LINKNET: &str = "/usr/lib/linknet-kernel-tests";

/// The modules that the guest loads, named so that they are sorted in the order in which it does.
const MODULES: &str = "/modules";

fn main() -> ExitCode {
    if env::args_os().next().is_some_and(|name| name == INIT) {
        guest::boot()
    } else if env::current_exe().is_ok_and(|program| program == Path::new(INIT)) {
        guest::suite().run()
    } else {
        host::run()
    }
}
