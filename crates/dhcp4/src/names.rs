//! Names of dhcp-options(5) and their codes.

/// The code of the option with this name.
pub fn code(name: &str) -> Option<u8> {
    (name == "subnet-mask").then_some(1)
}

/// The name of the option with this code.
pub fn name(code: u8) -> Option<&'static str> {
    (code == 1).then_some("subnet-mask")
}
