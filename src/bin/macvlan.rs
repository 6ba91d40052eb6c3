//! The CNI plugin `macvlan`. Everything it does is in the library of the same name.

#[path = "../mark.rs"]
mod mark;

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    leasehold_macvlan::main(const { &[leasehold_dhcp::built_in(mark::MARK.as_bytes())] })
}
