//! The CNI plugin `dhcp`, its daemon and its commands. Everything they do is in the library of the
//! same name.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    leasehold_dhcp::main()
}
