//! Giving an address back to its server, in an order in which no client gets it while another one
//! answers for it: the address is taken off the interface, then the server is told.

use std::io;

use linknet::{Mac, Netns};

use super::lease::ManagedLease;
use crate::daemon::exchange::find_user;
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
            NotReleased::StillConfigured(_) | NotReleased::Unknown(_) | NotReleased::Unsent(_) => {
                true
            }
            NotReleased::Unwanted | NotReleased::HeldByAnother | NotReleased::InUse(_) => false,
        }
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
    let netns = lease.open_netns()?;
    lease
        .take_address_off(&netns)
        .map_err(NotReleased::StillConfigured)?;
    let policy = lease.release_policy();
    if policy == ReleasePolicy::Never {
        return Err(NotReleased::Unwanted);
    }
    if is_held_by_another() {
        return Err(NotReleased::HeldByAnother);
    }
    if policy == ReleasePolicy::IfUnused {
        ensure_unused(lease, &netns).await?;
        // An ADD may have begun meanwhile.
        if is_held_by_another() {
            return Err(NotReleased::HeldByAnother);
        }
    }
    let released = lease.release_persistently(&netns).await;
    released.map_err(NotReleased::Unsent)
}

async fn ensure_unused(lease: &ManagedLease, netns: &Netns) -> Result<(), NotReleased> {
    let Some(address) = lease.address() else {
        return Ok(());
    };
    match find_user(netns, lease.interface.ifindex, address).await {
        Ok(None) => Ok(()),
        Ok(Some(mac)) => Err(NotReleased::InUse(mac)),
        Err(error) => Err(NotReleased::Unknown(error)),
    }
}
