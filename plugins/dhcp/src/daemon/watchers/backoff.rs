//! Pauses between attempts to get back what the kernel refused for want of something.

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that double, from a second to a minute.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    /// The shortest pause is next.
    pub(super) fn new() -> Backoff {
        Backoff(FIRST)
    }

    /// Waits before another attempt.
    pub(super) async fn pause(&mut self) {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        sleep(pause).await;
    }
}
