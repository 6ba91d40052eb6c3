//! The daemon as a process: its command line, its log, its files and its service manager.

mod confinement;
mod flags;
pub(super) mod log;
mod pidfile;
mod privileges;
mod service_manager;
mod state_lock;

pub(super) use confinement::confine;
pub(super) use flags::Flags;
pub(super) use pidfile::PidFile;
pub(super) use privileges::missing_capabilities;
pub(super) use service_manager::{notify_ready, notify_status, notify_stopping, send_heartbeats};
pub(super) use state_lock::lock_state;
