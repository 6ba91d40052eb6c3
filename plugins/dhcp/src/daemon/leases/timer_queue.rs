//! One kernel timer for all leases, on CLOCK_BOOTTIME: that clock advances while the machine is
//! suspended, as the server's does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use dhcp4::Instant;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::daemon::watchers::watch;

/// Timers, each with a value of type `T`, in the order of their time.
#[derive(Debug)]
pub(super) struct TimerQueue<T> {
    queue: RefCell<Queue<T>>,
    kernel_timer: AsyncFd<OwnedFd>,
}

#[derive(Debug)]
struct Queue<T> {
    pending: BTreeMap<TimerKey, T>,
    /// Distinguishes timers with the same time.
    next_id: u64,
}

/// A timer that was set: its time, and a number that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey(Instant, u64);

impl<T> TimerQueue<T> {
    /// An empty queue. Needs a tokio runtime.
    pub(super) fn new() -> io::Result<TimerQueue<T>> {
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let queue = RefCell::new(Queue {
            pending: BTreeMap::new(),
            next_id: 0,
        });
        Ok(TimerQueue {
            queue,
            kernel_timer: watch(timer)?,
        })
    }

    /// Sets a timer for `time`. If that has passed, the timer expires at once.
    pub(super) fn set(&self, time: Instant, value: T) -> TimerKey {
        let mut queue = self.queue.borrow_mut();
        let key = TimerKey(time, queue.next_id);
        queue.next_id += 1;
        queue.pending.insert(key, value);
        self.arm(&queue);
        key
    }

    /// Cancels a timer. It does nothing if the timer has expired.
    pub(super) fn cancel(&self, key: TimerKey) {
        self.queue.borrow_mut().pending.remove(&key);
    }

    /// Waits until the next timer expires, removes it and returns its value.
    pub(super) async fn next(&self, now: impl Fn() -> Instant) -> io::Result<T> {
        loop {
            {
                let mut queue = self.queue.borrow_mut();
                if let Some(first) = queue.pending.first_entry()
                    && first.key().0 <= now()
                {
                    return Ok(first.remove());
                }
                self.arm(&queue);
            }
            let mut ready = self.kernel_timer.readable().await?;
            // The count of expirations does not matter. There is none if the timer was set again.
            let _ = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        }
    }

    /// Sets the kernel's timer for the first timer in the queue.
    fn arm(&self, queue: &Queue<T>) {
        let Some((TimerKey(time, _), _)) = queue.pending.first_key_value() else {
            return;
        };
        // Zero would disarm the timer.
        let at = time.since_boot().max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: timespec(at),
        };
        if let Err(error) = timerfd_settime(&self.kernel_timer, TimerfdTimerFlags::ABSTIME, &once) {
            tracing::error!(%error, "cannot set the kernel's timer for the leases");
        }
    }
}

/// A time as the kernel takes it. One beyond its range becomes the last one in it.
fn timespec(at: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: at.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        Instant::from_boot(linknet::boottime())
    }

    #[tokio::test]
    async fn timers_expire_in_order_and_cancelled_ones_never() {
        let timers = TimerQueue::new().expect("a timer");
        let start = now();
        timers.set(start + Duration::from_millis(20), "later");
        let cancelled = timers.set(start + Duration::from_millis(5), "never");
        timers.set(start + Duration::from_millis(10), "sooner");
        timers.set(start, "overdue");
        timers.cancel(cancelled);
        for expected in ["overdue", "sooner", "later"] {
            assert_eq!(timers.next(now).await.expect("the timer works"), expected);
        }
    }

    #[tokio::test]
    async fn timers_for_the_same_time_expire_each() {
        let timers = TimerQueue::new().expect("a timer");
        let time = now();
        for lease in ["one", "two", "three"] {
            timers.set(time, lease);
        }
        for expected in ["one", "two", "three"] {
            assert_eq!(timers.next(now).await.expect("the timer works"), expected);
        }
    }

    #[tokio::test]
    async fn an_earlier_timer_set_while_waiting_is_not_missed() {
        let timers = TimerQueue::new().expect("a timer");
        timers.set(now() + Duration::from_secs(3600), "in an hour");
        let (woken, ()) = tokio::join!(timers.next(now), async {
            tokio::task::yield_now().await;
            timers.set(now() + Duration::from_millis(5), "now");
        });
        assert_eq!(woken.expect("the timer works"), "now");
    }
}
