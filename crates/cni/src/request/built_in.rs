//! The delegates that are part of a program.

use super::environment::Env;

/// A delegate that is part of this program. The program calls it instead of an executable that is
/// of the same build, and runs any other.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// The name of the executable.
    pub name: &'static str,
    /// What the executable has within its first 4096 octets if it is of the same build. Linkers put
    /// notes there.
    pub mark: &'static [u8],
    /// Serves a call with this environment and this stdin. It returns `None`, and has done nothing,
    /// if the executable is to be run after all.
    pub serve: fn(&Env, &[u8]) -> Option<Answer>,
}

/// How a delegate answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// Whether it succeeded.
    pub is_success: bool,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, besides its records of the crate `log`.
    pub stderr: Vec<u8>,
}
