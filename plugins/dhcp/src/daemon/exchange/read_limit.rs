//! How fast an exchange reads.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How many frames an exchange reads before it pauses. One that is not disturbed ends before that.
const BURST: u32 = 16;

/// The pause. Meanwhile, the kernel drops what the socket has no room for.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits how many frames an exchange reads: a host that floods a LAN with replies to its clients
/// must not keep the daemon from serving other networks.
#[derive(Debug, Default)]
pub(super) struct ReadLimit {
    frames: Cell<u32>,
    pause_until: Cell<Option<Instant>>,
}

impl ReadLimit {
    /// Waits until a frame may be read.
    pub(super) async fn wait(&self) {
        if let Some(end) = self.pause_until.get() {
            sleep_until(end).await;
            self.pause_until.set(None);
        }
    }

    /// Notes that a frame was read. Returns whether another one may be read without waiting.
    pub(super) fn note_frame(&self) -> bool {
        let frames = self.frames.get().wrapping_add(1);
        self.frames.set(frames);
        let is_over = frames.is_multiple_of(BURST);
        if is_over {
            self.pause_until.set(Some(Instant::now() + PAUSE));
        }
        !is_over
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn after_a_burst_of_frames_there_is_a_pause() {
        let limit = ReadLimit::default();
        let is_free = async || timeout(Duration::ZERO, limit.wait()).await.is_ok();
        for frame in 1..BURST {
            assert!(limit.note_frame() && is_free().await, "{frame}");
        }
        let before = Instant::now();
        assert!(!limit.note_frame() && !is_free().await);
        limit.wait().await;
        assert!(before.elapsed() >= PAUSE);
        assert!(limit.note_frame() && is_free().await);
    }
}
