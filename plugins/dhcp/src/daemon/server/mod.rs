//! The daemon's socket: who may connect, what is requested, and the replies.

mod caller;
mod connection;
mod limits;
mod listener;
mod places;
#[cfg(feature = "podman")]
mod podman;
mod verbs;

pub(super) use limits::Limits;
pub(super) use listener::{ListenError, Listener};
pub(super) use places::{Place, Places};
pub(super) use verbs::Server;
