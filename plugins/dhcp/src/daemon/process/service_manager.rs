//! Notifications to the service manager, if there is one (sd_notify(3)).

use std::convert::Infallible;
use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::interval;

/// Reports that the daemon serves callers.
pub(crate) fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Reports what the daemon is doing, in a sentence that is made only if somebody hears it.
pub(crate) fn notify_status(status: impl FnOnce() -> Option<String>) {
    if std::env::var_os("NOTIFY_SOCKET").is_some()
        && let Some(status) = status()
    {
        notify(NotifyState::Status(&status));
    }
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
