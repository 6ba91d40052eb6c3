//! Warnings on stderr, which runtimes put into their own log. They drop the stderr of a plugin that
//! fails, so an error has the warnings that were written before it.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::mem::ManuallyDrop;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::error::Error;
use crate::printable::printable;

/// How many warnings an error has in its details. Some are about each object of a crowd.
const MAX_IN_DETAILS: usize = 8;

thread_local! {
    /// The warnings of the call that this thread serves, for the error that it may end with. To have
    /// them dropped when the thread ends would cost every call some system calls; by then the call
    /// has taken them.
    static OF_CALL: ManuallyDrop<RefCell<Vec<String>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };

    /// The delegate that this thread is calling.
    static DELEGATE: ManuallyDrop<RefCell<Option<DelegateLog>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// What a delegate logs that is part of this program.
struct DelegateLog {
    name: &'static str,
    lines: String,
}

/// Keeps a warning that was written to stderr.
pub(crate) fn keep(warning: String) {
    OF_CALL.with(|all| all.borrow_mut().push(warning));
}

/// Forgets the warnings of the call that this thread has served before.
pub(crate) fn forget() {
    take();
}

fn take() -> Vec<String> {
    OF_CALL.with(|all| all.take())
}

/// Calls a delegate that is part of this program. Returns the lines that it would have logged, and
/// leaves the caller's warnings as they are.
pub(crate) fn of_delegate<T>(name: &'static str, call: impl FnOnce() -> T) -> (T, String) {
    let kept = take();
    let lines = String::new();
    DELEGATE.with(|delegate| delegate.replace(Some(DelegateLog { name, lines })));
    let returned = call();
    let logged = DELEGATE.with(|delegate| delegate.take());
    OF_CALL.with(|all| all.replace(kept));
    (returned, logged.map_or_else(String::new, |log| log.lines))
}

/// Adds a line to the log of the delegate that this thread is calling. Returns whether it is.
fn is_logged_by_delegate(message: &fmt::Arguments<'_>) -> bool {
    DELEGATE.with(|delegate| {
        let mut delegate = delegate.borrow_mut();
        let log = delegate.as_mut();
        log.map(|log| log.lines += &line(log.name, message))
            .is_some()
    })
}

/// Adds the warnings of the call to the details of the error that it ends with, unless the error
/// has the text already: that of a delegate has the delegate's.
pub(crate) fn add_to(mut error: Error) -> Error {
    let mut left_out = 0;
    for (nth, warning) in take().into_iter().enumerate() {
        if error.msg.contains(&warning) || error.details.contains(&warning) {
            continue;
        }
        if nth < MAX_IN_DETAILS {
            error = error.and_details(&format!("warning: {warning}"));
        } else {
            left_out += 1;
        }
    }
    match left_out {
        0 => error,
        left_out => error.and_details(&format!("{left_out} more warnings")),
    }
}

/// Has this process write its records of the crate `log` to stderr, as those of `program`.
/// [`main`](crate::main) does this by itself; it is for a program that calls [`run`](crate::run())
/// instead.
pub fn to_stderr(program: &'static str) {
    // This fails if the program has a logger already.
    if log::set_boxed_logger(Box::new(Stderr { program })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

struct Stderr {
    program: &'static str,
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Warn {
            keep(record.args().to_string());
        }
        if is_logged_by_delegate(record.args()) {
            return;
        }
        // A full disk or a reader that is gone must not stop the plugin.
        let _ = io::stderr().write_all(line(self.program, record.args()).as_bytes());
    }

    fn flush(&self) {}
}

/// One line, whatever the message contains: names in it may have been chosen by a container.
pub(crate) fn line(program: &str, message: &fmt::Arguments<'_>) -> String {
    format!("{program}: {}\n", printable(&message.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(kept: &[&str], error: Error) -> String {
        forget();
        kept.iter().for_each(|warning| keep((*warning).to_owned()));
        add_to(error).details
    }

    #[test]
    fn an_error_has_the_warnings_before_it_that_it_does_not_have_already() {
        let error = Error::new(7, "no master");
        assert_eq!(details(&[], error.clone()), "");
        assert_eq!(
            details(&["no key \"masterr\"", "/8 is a guess"], error.clone()),
            "warning: no key \"masterr\"; warning: /8 is a guess"
        );
        let detailed = error.details("devices: eth1; warning: /8 is a guess");
        assert_eq!(
            details(&["/8 is a guess", "no master", "late"], detailed),
            "devices: eth1; warning: /8 is a guess; warning: late"
        );
        assert_eq!(add_to(Error::new(7, "next")).details, "");
    }

    #[test]
    fn an_error_has_some_warnings_and_the_number_of_the_others() {
        let many: Vec<String> = (0..20)
            .map(|number| format!("of link {number:02}"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let details = details(&many, Error::new(7, "failed"));
        assert!(
            details.contains("of link 07; 12 more warnings"),
            "{details}"
        );
    }

    #[test]
    fn what_a_delegate_logs_is_its_own() {
        forget();
        keep("the caller's".to_owned());
        let log = |text: &str| {
            let mut record = Record::builder();
            let logger = Stderr { program: "macvlan" };
            logger.log(
                &record
                    .level(Level::Warn)
                    .args(format_args!("{text}"))
                    .build(),
            );
        };
        let (returned, logged) = of_delegate("dhcp", || {
            log("no router");
            add_to(Error::new(7, "failed")).details
        });
        assert_eq!(returned, "warning: no router");
        assert_eq!(logged, "dhcp: no router\n");
        log("no carrier");
        let details = add_to(Error::new(7, "failed")).details;
        assert_eq!(details, "warning: the caller's; warning: no carrier");
    }

    #[test]
    fn a_warning_is_one_line_that_names_the_program() {
        assert_eq!(
            line("macvlan", &format_args!("eth0 has no carrier")),
            "macvlan: eth0 has no carrier\n"
        );
    }

    #[test]
    fn a_name_in_a_warning_cannot_forge_a_line_or_control_a_terminal() {
        assert_eq!(
            line("macvlan", &format_args!("removing \u{1b}[31mü\nFORGED")),
            "macvlan: removing \\u{1b}[31mü\\nFORGED\n"
        );
    }
}
