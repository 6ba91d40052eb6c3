//! What the event loop waits on besides callers and timers. No failure of a watcher ends the
//! daemon: a watcher that the kernel refuses pauses, tries again, and then looks for what it has
//! missed.

mod async_fd;
mod backoff;
mod carrier;
mod closer;
mod netns;

pub(super) use async_fd::watch;
pub(super) use carrier::CarrierWatcher;
pub(super) use closer::close_on_thread;
pub(super) use netns::NetnsWatcher;
