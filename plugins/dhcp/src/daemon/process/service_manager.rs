//! Notifications to the service manager, if there is one (sd_notify(3)).

use std::convert::Infallible;
use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::interval;

/// Reports that the daemon serves callers.
pub(crate) fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Reports that the daemon is about to exit.
pub(crate) fn notify_stopping() {
    notify(NotifyState::Stopping);
}

/// Sends heartbeats at twice the rate that the service manager expects, if it expects them.
pub(crate) async fn send_heartbeats() -> Infallible {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else {
        return pending().await;
    };
    let mut heartbeat = interval(period / 2);
    loop {
        heartbeat.tick().await;
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
