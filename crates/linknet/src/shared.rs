//! Links of the host that many containers share: made when the first needs one, removed with the
//! last.
//!
//! Who uses one can be seen in the kernel alone, so nothing about them is kept elsewhere, and
//! nothing can be lost. What is looked at and what is then done must not be torn apart by others at
//! the same: they hold the [`Lock`].

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::{Error, Link, Netlink, Result};

/// The sorts of links that are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// A VLAN that macvlans sit on.
    Vlan,
    /// A macvlan of the host's own, by which it reaches containers on the same parent.
    Shim,
}

impl Shared {
    /// Whether the link is one of these, and made by leasehold. An administrator who wants to keep
    /// one takes the alias away.
    pub fn is(self, link: &Link) -> bool {
        link.kind.as_deref() == Some(self.kind())
            && (link.group == Shared::GROUP || link.alias.as_deref() == Some(self.alias()))
    }

    /// The group of a link from when it is made until it is finished: unlike an alias, the kernel
    /// takes it together with everything else.
    pub const GROUP: u32 = u32::from_be_bytes(*b"lhld");

    /// Says on the link for good whose it is.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn finish(self, netlink: &Netlink, link: &Link) -> Result<()> {
        netlink.set_alias_and_group(link.index, self.alias(), 0)
    }

    /// What `ip link` shows.
    fn alias(self) -> &'static str {
        match self {
            Shared::Vlan => "leasehold:vlan",
            Shared::Shim => "leasehold:host",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Shared::Vlan => "vlan",
            Shared::Shim => "macvlan",
        }
    }
}

/// The right to make, use for the first time and remove shared links. It ends when this is dropped,
/// or with the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Where it is: beside the daemon's socket, so that a daemon in a container of its own sees it
    /// too.
    const PATH: &str = "/run/cni/leasehold.lock";

    /// Waits for it. Whoever has it asks a few things of the kernel and lets go.
    ///
    /// # Errors
    /// If the file cannot be made or opened.
    pub fn take() -> Result<Lock> {
        let mut file = open().map_err(|error| failed(&error))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(file) => return Ok(Lock { _file: file }),
                Err((unlocked, Errno::EINTR)) => file = unlocked,
                Err((_, errno)) => return Err(failed(&errno.into())),
            }
        }
    }

    /// The same for whoever must not wait for ever: somebody who has it may have been stopped.
    ///
    /// # Errors
    /// As for [`Lock::take`]; EWOULDBLOCK if it was not to be had in time.
    pub fn take_within(patience: Duration) -> Result<Lock> {
        // The kernel knows no deadline for this, and tells nobody when the lock is free.
        const PAUSE: Duration = Duration::from_millis(2);
        let deadline = Instant::now() + patience;
        let mut file = open().map_err(|error| failed(&error))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Lock { _file: file }),
                Err((unlocked, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => {
                    file = unlocked;
                    sleep(PAUSE);
                }
                Err((_, errno)) => return Err(failed(&errno.into())),
            }
        }
    }
}

fn open() -> io::Result<File> {
    if let Some(folder) = Path::new(Lock::PATH).parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    // Nobody but root may hold it: who can open it can.
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(Lock::PATH)
}

fn failed(error: &io::Error) -> Error {
    Error::io(format!("lock {}", Lock::PATH), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_link_is_known_by_kind_and_mark() {
        let link = |kind: &str, alias: Option<&str>, group| {
            let mut link = Link::from(netlink_packet_route::link::LinkMessage::default());
            link.kind = Some(kind.to_owned());
            link.alias = alias.map(str::to_owned);
            link.group = group;
            link
        };
        let ours = link("vlan", Some("leasehold:vlan"), 0);
        assert!(Shared::Vlan.is(&ours) && !Shared::Shim.is(&ours));
        assert!(Shared::Shim.is(&link("macvlan", Some("leasehold:host"), 0)));
        assert!(
            Shared::Shim.is(&link("macvlan", None, Shared::GROUP)),
            "killed before it had its alias"
        );
        for other in [
            link("vlan", None, 0),
            link("vlan", Some("uplink"), 0),
            link("macvlan", Some("leasehold:eth0/c1/lan"), 0),
            link("dummy", Some("leasehold:host"), Shared::GROUP),
        ] {
            assert!(
                !Shared::Vlan.is(&other) && !Shared::Shim.is(&other),
                "{other:?}"
            );
        }
    }
}
