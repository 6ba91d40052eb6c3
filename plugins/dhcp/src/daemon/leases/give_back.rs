//! Giving an address back to its server, in an order in which no client gets it while another one
//! answers for it: the address is taken off the interface, then the server is told.

use std::io;

use linknet::{Link, Mac, MacvlanMode, Netlink, Netns};

use super::lease::ManagedLease;
use crate::daemon::exchange::{Usage, find_user};
use crate::protocol::ReleasePolicy;
use crate::state::Unreachable;

/// Why the server was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReleased {
    /// The container is gone: nothing can be sent without it.
    #[error("{0}")]
    Unreachable(#[from] Unreachable),
    /// The container would still answer for the address.
    #[error("cannot remove it from the interface: {0}")]
    StillConfigured(linknet::Error),
    /// `release` is `false`.
    #[error("the configuration says `release: false`")]
    Unwanted,
    /// Another lease of ours holds it.
    #[error("another container has it under the same client identifier")]
    HeldByAnother,
    /// Another station on the LAN has it.
    #[error("{0} uses it on the LAN")]
    InUse(Mac),
    /// Nobody knows whether another station has it.
    #[error("cannot ask whether another station uses it: {0}")]
    Unknown(io::Error),
    /// The container does not hear its neighbours at all.
    #[error(
        "it is unknown whether another station uses it, because the container gets no answers to ARP \
         requests at all"
    )]
    Deaf,
    /// In this mode, the container does not hear all of its neighbours.
    #[error(
        "it is unknown whether another station uses it, because a macvlan in mode {0} does not hear \
         all of its neighbours; `release: true` releases it regardless"
    )]
    Blind(MacvlanMode),
    /// The kernel would take the RELEASE, and drop it.
    #[error("the RELEASE cannot be sent: {0} has no carrier")]
    NoCarrier(String),
    /// The RELEASE did not leave the machine.
    #[error("the RELEASE cannot be sent: {0}")]
    Unsent(io::Error),
}

impl NotReleased {
    /// Whether another container or station has the address, so that this client must not ask for
    /// it again as its own.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, NotReleased::HeldByAnother | NotReleased::InUse(_))
    }

    /// Whether it may succeed if it is tried again.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            NotReleased::Unreachable(why) => !why.is_gone(),
            NotReleased::StillConfigured(_)
            | NotReleased::Unknown(_)
            | NotReleased::Deaf
            | NotReleased::NoCarrier(_)
            | NotReleased::Unsent(_) => true,
            NotReleased::Unwanted
            | NotReleased::HeldByAnother
            | NotReleased::InUse(_)
            | NotReleased::Blind(_) => false,
        }
    }

    /// Whether the address may be free while the server keeps it.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(
            self,
            NotReleased::Unknown(_) | NotReleased::Deaf | NotReleased::Blind(_)
        )
    }
}

/// Takes the address of a lease that has ended off its interface, and releases it, unless another
/// container may have it by now. `is_held_by_another` tells whether one of our own does.
///
/// # Errors
/// Why it was not released. The server keeps it until the lease ends.
pub(super) async fn give_back(
    lease: &ManagedLease,
    is_held_by_another: impl Fn() -> bool,
) -> Result<(), NotReleased> {
    let (netns, link) = take_off(lease)?;
    let policy = lease.release_policy();
    if policy == ReleasePolicy::Never {
        return Err(NotReleased::Unwanted);
    }
    if is_held_by_another() {
        return Err(NotReleased::HeldByAnother);
    }
    if !link.up {
        set_up(&netns, &link);
    } else if !link.carrier {
        return Err(NotReleased::NoCarrier(link.name));
    }
    if policy == ReleasePolicy::IfUnused {
        ensure_unused(lease, &netns, &link).await?;
        // An ADD may have begun meanwhile.
        if is_held_by_another() {
            return Err(NotReleased::HeldByAnother);
        }
    }
    let released = lease.release_persistently(&netns).await;
    released.map_err(NotReleased::Unsent)
}

/// Takes the address off, and returns the interface and its netns.
///
/// An interface that looks like another attachment's is the lease's if it has the address: root in
/// the container can give it any mark and any MAC, but no other index.
fn take_off(lease: &ManagedLease) -> Result<(Netns, Link), NotReleased> {
    let (found, is_known) = match lease.lookup() {
        Err(Unreachable::InterfaceGone) => (lease.lookup_index()?, false),
        found => (found?, true),
    };
    let was_there = lease.take_address_off(&found.0);
    match was_there.map_err(NotReleased::StillConfigured)? || is_known {
        true => Ok(found),
        false => Err(Unreachable::InterfaceGone.into()),
    }
}

/// Sets the interface up again, so that it can send. It has no address any more, and the runtime is
/// about to remove it.
fn set_up(netns: &Netns, link: &Link) {
    let netlink = Netlink::open_in(netns);
    if let Err(error) = netlink.and_then(|netlink| netlink.set_up(link.index)) {
        tracing::warn!(link = %link.name, %error, "cannot set the interface up to release its address");
    }
}

async fn ensure_unused(
    lease: &ManagedLease,
    netns: &Netns,
    link: &Link,
) -> Result<(), NotReleased> {
    let Some(address) = lease.address() else {
        return Ok(());
    };
    let usage = find_user(netns, link.index, address, &lease.witnesses()).await;
    match usage.map_err(NotReleased::Unknown)? {
        Usage::By(mac) => Err(NotReleased::InUse(mac)),
        Usage::Deaf => Err(NotReleased::Deaf),
        Usage::Silence => match blind_mode(link) {
            Some(mode) => Err(NotReleased::Blind(mode)),
            None => Ok(()),
        },
    }
}

/// The link's mode, if it is a macvlan that some of its neighbours on the same parent do not reach,
/// or that hears only listed stations.
fn blind_mode(link: &Link) -> Option<MacvlanMode> {
    use MacvlanMode::{Bridge, Passthru, Private, Source, Vepa};
    let mode = link.macvlan.as_ref()?.mode?;
    match mode {
        Private | Source | Vepa => Some(mode),
        Bridge | Passthru => None,
    }
}

#[cfg(test)]
mod tests {
    use linknet::Macvlan;

    use super::*;

    #[test]
    fn some_modes_keep_a_container_from_hearing_all_of_its_neighbours() {
        let blind = |mode| {
            let macvlan = Some(Macvlan {
                mode,
                ..Macvlan::default()
            });
            blind_mode(&Link {
                macvlan,
                ..Link::default()
            })
        };
        for mode in [MacvlanMode::Private, MacvlanMode::Source, MacvlanMode::Vepa] {
            assert_eq!(blind(Some(mode)), Some(mode));
        }
        for mode in [Some(MacvlanMode::Bridge), Some(MacvlanMode::Passthru), None] {
            assert_eq!(blind(mode), None);
        }
        assert_eq!(blind_mode(&Link::default()), None);
    }

    #[test]
    fn a_lease_is_given_back_later_unless_that_is_settled() {
        let io = || io::Error::from(io::ErrorKind::NetworkDown);
        let refusal = linknet::Error::refusal("remove", 1, None);
        let mac = Mac([2; 6]);
        // Whether it is taken, may be tried again, is doubtful.
        for (why, expected) in [
            (NotReleased::Unreachable(Unreachable::NetnsGone), [false; 3]),
            (
                NotReleased::Unreachable(Unreachable::Temporary),
                [false, true, false],
            ),
            (NotReleased::StillConfigured(refusal), [false, true, false]),
            (NotReleased::Unwanted, [false; 3]),
            (NotReleased::HeldByAnother, [true, false, false]),
            (NotReleased::InUse(mac), [true, false, false]),
            (NotReleased::Unknown(io()), [false, true, true]),
            (NotReleased::Deaf, [false, true, true]),
            (
                NotReleased::Blind(MacvlanMode::Private),
                [false, false, true],
            ),
            (NotReleased::Unsent(io()), [false, true, false]),
        ] {
            let is = [why.is_taken(), why.is_temporary(), why.is_doubtful()];
            assert_eq!(is, expected, "{why}");
        }
    }
}
