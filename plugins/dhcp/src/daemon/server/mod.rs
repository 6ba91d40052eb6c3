//! The daemon's socket: who may connect, what is requested, and the replies.

mod connection;
mod limits;
mod listener;
mod verbs;

pub(super) use limits::Limits;
pub(super) use listener::Listener;
pub(super) use verbs::Server;
