//! One kernel timer for all leases, on CLOCK_BOOTTIME: it goes on counting while the machine is
//! suspended, as the server's own clock does.

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

use super::watch::watch;

/// Alarms for holders of type `T`, in the order of their time.
#[derive(Debug)]
pub(crate) struct Alarms<T> {
    queue: RefCell<Queue<T>>,
    timer: AsyncFd<OwnedFd>,
}

#[derive(Debug)]
struct Queue<T> {
    pending: BTreeMap<Alarm, T>,
    /// Tells alarms of one instant apart.
    next: u64,
}

/// An alarm that was set: its time, and a number that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm(Instant, u64);

impl<T> Alarms<T> {
    /// An empty queue. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<Alarms<T>> {
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let queue = RefCell::new(Queue {
            pending: BTreeMap::new(),
            next: 0,
        });
        Ok(Alarms {
            queue,
            timer: watch(timer)?,
        })
    }

    /// Wakes `holder` at `when`; a time that has passed means at once.
    pub(crate) fn set(&self, when: Instant, holder: T) -> Alarm {
        let mut queue = self.queue.borrow_mut();
        let alarm = Alarm(when, queue.next);
        queue.next += 1;
        queue.pending.insert(alarm, holder);
        self.arm(&queue);
        alarm
    }

    /// Forgets an alarm; one that has gone off already is no matter.
    pub(crate) fn cancel(&self, alarm: Alarm) {
        self.queue.borrow_mut().pending.remove(&alarm);
    }

    /// Waits for the next alarm to go off, and takes its holder out of the queue.
    pub(crate) async fn next(&self, now: impl Fn() -> Instant) -> io::Result<T> {
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
            let mut ready = self.timer.readable().await?;
            // The count of expirations does not matter; a timer set anew meanwhile has nothing to
            // read.
            let _ = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        }
    }

    /// Sets the kernel's timer for the first alarm.
    fn arm(&self, queue: &Queue<T>) {
        let Some((Alarm(when, _), _)) = queue.pending.first_key_value() else {
            return;
        };
        // Zero would disarm the timer.
        let at = when.since_boot().max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: timespec(at),
        };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once) {
            tracing::error!(%error, "the timer of the leases could not be set");
        }
    }
}

/// What the kernel takes; a time beyond its reach is as good as never.
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
    async fn alarms_go_off_in_their_order_and_cancelled_ones_do_not() {
        let alarms = Alarms::new().expect("a timer");
        let start = now();
        alarms.set(start + Duration::from_millis(20), "later");
        let cancelled = alarms.set(start + Duration::from_millis(5), "never");
        alarms.set(start + Duration::from_millis(10), "sooner");
        alarms.set(start, "overdue");
        alarms.cancel(cancelled);
        for expected in ["overdue", "sooner", "later"] {
            assert_eq!(alarms.next(now).await.expect("the timer works"), expected);
        }
    }

    #[tokio::test]
    async fn an_earlier_alarm_set_while_waiting_is_not_missed() {
        let alarms = Alarms::new().expect("a timer");
        alarms.set(now() + Duration::from_secs(3600), "in an hour");
        let (woken, ()) = tokio::join!(alarms.next(now), async {
            tokio::task::yield_now().await;
            alarms.set(now() + Duration::from_millis(5), "now");
        });
        assert_eq!(woken.expect("the timer works"), "now");
    }
}
