//! The CNI plugin `macvlan`. Everything it does is in the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    leasehold_macvlan::main()
}
