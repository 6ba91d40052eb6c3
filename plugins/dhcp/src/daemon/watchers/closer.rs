//! Closing packet sockets on other threads: the kernel takes an RCU grace period for each,
//! milliseconds in which the event loop would serve nothing.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most threads that close sockets. They share grace periods, so this is how many sockets are
/// closed in one, and limits how many leases are renewed in a second: about 50 for each thread.
const MAX_THREADS: usize = 8;

/// How long a thread waits for more sockets before it ends.
const IDLE_TIME: Duration = Duration::from_secs(10);

static CLOSER: Closer = Closer::new(IDLE_TIME);

/// Closes sockets, and drops what depends on them, on another thread; or here, if no thread can be
/// had.
pub(crate) fn close_on_thread(sockets: impl Send + 'static) {
    CLOSER.close(Box::new(sockets), || {
        let thread = thread::Builder::new().name("close-sockets".to_owned());
        thread.spawn(|| CLOSER.work()).map(drop)
    });
}

/// The sockets that are waiting to be closed, and the threads that close them.
struct Closer {
    /// How long a thread waits for more sockets.
    idle_time: Duration,
    queue: Mutex<Queue>,
    /// Notified when there is a socket in the queue.
    filled: Condvar,
}

struct Queue {
    sockets: VecDeque<Box<dyn Any + Send>>,
    threads: usize,
    /// Threads that wait for sockets.
    idle: usize,
}

impl Closer {
    const fn new(idle_time: Duration) -> Closer {
        Closer {
            idle_time,
            queue: Mutex::new(Queue {
                sockets: VecDeque::new(),
                threads: 0,
                idle: 0,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts sockets into the queue. `spawn` starts a thread that runs [`Closer::work`].
    fn close(&self, sockets: Box<dyn Any + Send>, spawn: impl FnOnce() -> io::Result<()>) {
        let mut queue = self.lock();
        queue.sockets.push_back(sockets);
        if queue.idle >= queue.sockets.len() {
            self.filled.notify_one();
        } else if queue.threads < MAX_THREADS {
            match spawn() {
                Ok(()) => queue.threads += 1,
                Err(_) if queue.threads > 0 => {}
                Err(_) => {
                    let sockets = std::mem::take(&mut queue.sockets);
                    drop(queue);
                    drop(sockets);
                }
            }
        }
    }

    /// Closes sockets until there have been none for a while.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(sockets) = queue.sockets.pop_front() {
                drop(queue);
                drop(sockets);
                queue = self.lock();
                continue;
            }
            queue.idle += 1;
            let waited = self.filled.wait_timeout(queue, self.idle_time);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if timeout.timed_out() && queue.sockets.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    /// Reports on which thread it is dropped.
    struct Socket(Sender<ThreadId>);

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn sockets_are_closed_on_other_threads() {
        let (dropped, on_thread) = channel();
        for _ in 0..10 {
            close_on_thread(Socket(dropped.clone()));
        }
        for _ in 0..10 {
            let thread = on_thread.recv().expect("each is dropped");
            assert_ne!(thread, thread::current().id());
        }
    }

    #[test]
    fn without_a_thread_sockets_are_closed_in_place() {
        let (dropped, on_thread) = channel();
        let closer = Closer::new(IDLE_TIME);
        closer.close(Box::new(Socket(dropped)), || {
            Err(io::ErrorKind::WouldBlock.into())
        });
        assert_eq!(on_thread.try_recv(), Ok(thread::current().id()));
    }

    #[test]
    fn where_no_more_threads_can_be_had_sockets_wait_for_the_one_there_is() {
        let (dropped, on_thread) = channel();
        let closer = Closer::new(IDLE_TIME);
        closer.close(Box::new(Socket(dropped.clone())), || Ok(()));
        closer.close(Box::new(Socket(dropped)), || {
            Err(io::ErrorKind::WouldBlock.into())
        });
        assert!(on_thread.try_recv().is_err(), "the thread has yet to run");
    }

    #[test]
    fn a_thread_ends_when_there_is_nothing_to_close_any_more() {
        let (dropped, on_thread) = channel();
        let closer = Closer::new(Duration::ZERO);
        closer.close(Box::new(Socket(dropped.clone())), || Ok(()));
        assert_eq!(closer.lock().threads, 1);
        closer.work();
        assert!(on_thread.try_recv().is_ok());
        let queue = closer.lock();
        assert_eq!((queue.threads, queue.idle), (0, 0));
    }

    #[test]
    fn there_are_no_more_threads_than_the_most() {
        let (dropped, on_thread) = channel();
        let closer = Closer::new(IDLE_TIME);
        let mut started = 0;
        for _ in 0..MAX_THREADS + 2 {
            closer.close(Box::new(Socket(dropped.clone())), || {
                started += 1;
                Ok(())
            });
        }
        assert_eq!(started, MAX_THREADS);
        assert_eq!(closer.lock().threads, MAX_THREADS);
        assert!(on_thread.try_recv().is_err(), "none has run");
    }

    #[test]
    fn a_thread_that_waits_is_woken_instead_of_a_new_one() {
        let (dropped, on_thread) = channel();
        let closer = Closer::new(IDLE_TIME);
        closer.lock().idle = 1;
        let no_other = || unreachable!("a thread waits already");
        closer.close(Box::new(Socket(dropped.clone())), no_other);
        let mut started = 0;
        closer.close(Box::new(Socket(dropped)), || {
            started += 1;
            Ok(())
        });
        assert_eq!(started, 1, "the one that waits has one to close");
        assert!(on_thread.try_recv().is_err());
    }
}
