//! Warnings on stderr, which runtimes put into their own log.

use std::fmt;
use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

use crate::printable::printable;

/// Has this process write its records of the crate `log` to stderr, as those of `program`.
pub(crate) fn to_stderr(program: &'static str) {
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
