//! How much work is accepted at a time. Further work waits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most callers that are served at a time; others wait in the socket's backlog.
const MAX_CONNECTIONS: u64 = 512;

/// The most ADDs that exchange messages with servers at a time, on all LANs together.
const MAX_CONCURRENT_ADDS: u64 = 512;

/// The most leases that are renewed, or looked for again, at a time.
const MAX_CONCURRENT_MAINTENANCE: u64 = 64;

/// How much work is accepted at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Callers that are served.
    pub(crate) connections: usize,
    /// ADDs that exchange messages with servers.
    pub(crate) adds: usize,
    /// Leases that are maintained.
    pub(crate) maintenance: usize,
}

impl Limits {
    /// As much as the process's descriptors allow, after their limit is raised as far as possible.
    pub(crate) fn of_process() -> Limits {
        let limit = getrlimit(Resource::Nofile);
        // A limit that cannot be raised is no reason not to start.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
        Limits::for_descriptors(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    /// As much as this number of descriptors allows. A caller takes two, an ADD two more until its
    /// sockets are closed, and a lease that is maintained three; the daemon itself needs a few too.
    fn for_descriptors(descriptors: u64) -> Limits {
        let left = descriptors.saturating_sub(24);
        let at_most = |share: u64, most: u64| usize::try_from(share.clamp(2, most)).unwrap_or(2);
        Limits {
            connections: at_most(left / 5, MAX_CONNECTIONS),
            adds: at_most(left / 8, MAX_CONCURRENT_ADDS),
            maintenance: at_most(left / 16, MAX_CONCURRENT_MAINTENANCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_fit_the_number_of_descriptors() {
        for descriptors in [64, 256, 1024, 4096, 1 << 20, u64::MAX] {
            let limits = Limits::for_descriptors(descriptors);
            let Limits {
                connections,
                adds,
                maintenance,
            } = limits;
            assert!(
                (2 * connections + 2 * adds + 3 * maintenance + 24) as u64 <= descriptors,
                "{descriptors}: {limits:?}"
            );
        }
        assert_eq!(
            Limits::for_descriptors(1 << 20),
            Limits {
                connections: 512,
                adds: 512,
                maintenance: 64,
            }
        );
    }
}
