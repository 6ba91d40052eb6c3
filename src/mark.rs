//! The mark of a build. The executable `dhcp` bears it, and `macvlan` knows it, so that `macvlan`
//! recognises the `dhcp` of its own build and need not run it to ask the daemon.

/// An ELF note's name and content.
pub(crate) const MARK: &str = concat!("leasehold\0\0\0", env!("LEASEHOLD_BUILD"));
