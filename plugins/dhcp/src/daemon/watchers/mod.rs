//! What the event loop waits on besides callers and timers.

mod async_fd;
mod carrier;
mod netns;

pub(super) use async_fd::{close_on_thread, watch};
pub(super) use carrier::CarrierWatcher;
pub(super) use netns::NetnsWatcher;
