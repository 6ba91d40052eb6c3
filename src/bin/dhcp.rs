//! The CNI plugin `dhcp`, its daemon and its commands. Everything they do is in the library of the
//! same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    leasehold_dhcp::main()
}
