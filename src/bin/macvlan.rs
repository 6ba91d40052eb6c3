//! The CNI plugin `macvlan`. Everything it does is in the library of the same name.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    leasehold_macvlan::main()
}
