//! The leases of all containers: [`Table`] has them, and the verbs, timers and watchers act on it.

mod add;
#[cfg(feature = "podman")]
mod answered;
mod attempt;
mod check;
#[cfg(feature = "podman")]
mod container_identity;
mod detach;
mod end;
mod failures;
mod give_back;
mod holders;
mod lan;
mod lease;
mod list;
mod lost_address;
mod maintain;
mod offline;
mod renew;
mod resume;
mod shared_settings;
mod slot;
mod supersede;
mod table;
mod timer_queue;
mod unreleased;

pub(super) use add::{add, undo};
pub(super) use check::check;
#[cfg(feature = "podman")]
pub(super) use container_identity::choose_identity;
pub(super) use detach::{del, gc};
pub(super) use list::{describe, list, one, summary};
#[cfg(feature = "podman")]
pub(super) use maintain::abandon_gone;
pub(super) use maintain::{maintain_next, watch_carriers, watch_netns};
pub(crate) use offline::{EndedLease, Outcome, release_offline};
pub(super) use renew::renew;
pub(super) use resume::{resume_abandoned, resume_all, resume_rest, retry_releases};
pub(super) use table::Table;
