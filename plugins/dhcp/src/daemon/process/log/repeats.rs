//! Lines that repeat are counted rather than written: a server that refuses every renewal must not
//! fill the disk.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How many lines of one kind about one attachment are written between two calls of
/// [`Repeats::report`].
const MAX_LINES: u8 = 10;

/// How many kinds of lines are told apart. After that, counting starts again.
const MAX_KINDS: usize = 20_000;

/// The target of the lines that say how often others were left out.
const TARGET: &str = "repeats";

/// Leaves out lines that are like many before them, and counts them.
#[derive(Debug)]
pub(super) struct Repeats(Mutex<Option<Kinds>>);

/// The kinds of lines that were written. Lines of one kind come from one place in the program, and
/// are about the same attachment and event; the reason behind the colon may differ. There may be as
/// many kinds as leases, so each is known by its hash.
#[derive(Debug, Default)]
struct Kinds {
    hasher: RandomState,
    kinds: HashMap<u64, Count>,
}

#[derive(Debug, Default)]
struct Count {
    written: u8,
    left_out: Option<Box<LeftOut>>,
}

/// Lines of one kind that were not written.
#[derive(Debug)]
struct LeftOut {
    attachment: String,
    what: String,
    times: u64,
}

impl Repeats {
    /// Nothing was written yet.
    pub(super) const fn new() -> Repeats {
        Repeats(Mutex::new(None))
    }

    /// Logs how many lines were left out since the last call, and starts to count again.
    pub(super) fn report(&self) {
        let kinds = self.kinds().take().unwrap_or_default().kinds;
        for left_out in kinds.into_values().filter_map(|count| count.left_out) {
            let LeftOut {
                attachment,
                what,
                times,
            } = *left_out;
            let attachment = Some(attachment).filter(|text| !text.is_empty());
            tracing::info!(target: TARGET, attachment, times, "more lines like this: {what}");
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Option<Kinds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an event, and returns whether it should be written.
    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // Somebody who asks for details gets all of them.
        if metadata.target() == TARGET || *metadata.level() > Level::INFO {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let what = text.message.split(": ").next().unwrap_or_default();
        let mut kinds = self.kinds();
        let Kinds { hasher, kinds } = kinds.get_or_insert_default();
        if kinds.len() >= MAX_KINDS {
            kinds.clear();
        }
        let kind = hasher.hash_one((metadata.callsite(), &text.attachment, what));
        let count = kinds.entry(kind).or_default();
        if count.written < MAX_LINES {
            count.written += 1;
            return true;
        }
        let left_out = count.left_out.get_or_insert_with(|| {
            Box::new(LeftOut {
                attachment: text.attachment.clone(),
                what: what.to_owned(),
                times: 0,
            })
        });
        left_out.times += 1;
        false
    }
}

impl<S: Subscriber> Layer<S> for &'static Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event)
    }
}

/// The texts of an event.
#[derive(Debug, Default)]
struct Text {
    message: String,
    attachment: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "attachment" => &mut self.attachment,
            _ => return,
        };
        let _ = write!(text, "{value:?}"); // a String takes everything
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::logged_through;
    use super::*;

    /// Runs `f` with a log that counts repeats, and returns its lines.
    fn lines(f: impl FnOnce(&'static Repeats)) -> Vec<String> {
        let repeats: &'static Repeats = Box::leak(Box::new(Repeats::new()));
        let log = logged_through(repeats, || f(repeats));
        log.lines().map(ToOwned::to_owned).collect()
    }

    fn lose(attachment: &str, reason: &str) {
        tracing::warn!(%attachment, "address lost: {reason}");
    }

    #[test]
    fn the_eleventh_line_of_a_kind_is_counted_and_those_of_others_are_written() {
        let lines = lines(|repeats| {
            for number in 0..13 {
                lose("lan/c1:eth0", &format!("NAK {number}"));
            }
            lose("lan/c2:eth0", "NAK");
            tracing::info!("lease renewed");
            repeats.report();
            lose("lan/c1:eth0", "again");
        });
        let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!(of("address lost: NAK"), 11, "{lines:#?}");
        assert_eq!(of("lease renewed"), 1, "{lines:#?}");
        assert_eq!(of("more lines like this: address lost"), 1, "{lines:#?}");
        assert!(lines[12].contains("times=3") && lines[12].contains("lan/c1:eth0"));
        assert_eq!(of("again"), 1, "{lines:#?}");
    }

    #[test]
    fn lines_of_a_verbose_daemon_are_all_written() {
        let lines = lines(|_| {
            for _ in 0..13 {
                tracing::debug!(attachment = "lan/c1:eth0", "request");
            }
        });
        assert_eq!(lines.len(), 13, "{lines:#?}");
    }

    #[test]
    fn lines_that_were_all_written_are_not_reported() {
        let lines = lines(|repeats| {
            for number in 0..MAX_LINES {
                lose("lan/c1:eth0", &format!("NAK {number}"));
            }
            repeats.report();
        });
        assert_eq!(lines.len(), usize::from(MAX_LINES), "{lines:#?}");
    }

    #[test]
    fn lines_of_the_usual_level_are_counted() {
        let lines = lines(|_| {
            for _ in 0..=MAX_LINES {
                tracing::info!(attachment = "lan/c1:eth0", "lease renewed");
            }
        });
        assert_eq!(lines.len(), usize::from(MAX_LINES), "{lines:#?}");
    }
}
