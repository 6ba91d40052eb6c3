//! Notifications to the service manager, if there is one (sd_notify(3)).

use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::{Interval, interval};

/// Reports that the daemon serves callers.
pub(crate) fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Reports that the daemon is about to exit.
pub(crate) fn notify_stopping() {
    notify(NotifyState::Stopping);
}

/// The heartbeat that a service manager with a watchdog expects.
#[derive(Debug)]
pub(crate) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// A heartbeat at twice the rate that the service manager expects, if it expects one. Needs a
    /// tokio runtime.
    pub(crate) fn new() -> Watchdog {
        let period = sd_notify::watchdog_enabled().filter(|period| !period.is_zero());
        Watchdog(period.map(|period| interval(period / 2)))
    }

    /// Waits until the next heartbeat is due, and sends it. Waits for ever if none is expected.
    pub(crate) async fn beat(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
                notify(NotifyState::Watchdog);
            }
            None => pending().await,
        }
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
