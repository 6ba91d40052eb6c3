//! What the kernel refused, in its own words.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The result of asking the kernel for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kernel refused a request, or could not be asked.
///
/// Its text says what was asked, of which object, and why it failed: the errno, and the kernel's
/// own explanation (the text of an extended acknowledgement) where it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: String,
    cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// The kernel's answer, or that of a system call on the way to it.
    Kernel { errno: Errno, text: Option<String> },
    /// The kernel's answer could not be understood.
    Answer(String),
}

impl Error {
    /// The number of the error (`EBUSY` and so on), where there is one.
    pub fn errno(&self) -> Option<i32> {
        match &self.cause {
            Cause::Kernel { errno, .. } => Some(*errno as i32),
            Cause::Answer(_) => None,
        }
    }

    /// What the kernel itself had to say, beyond the number: "Device can not be enslaved while
    /// up", for example.
    pub fn kernel_text(&self) -> Option<&str> {
        match &self.cause {
            Cause::Kernel { text, .. } => text.as_deref(),
            Cause::Answer(_) => None,
        }
    }

    /// What was asked: "create macvlan eth0 on interface 2", for example.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// EEXIST: there is already one of that name, address or destination.
    pub fn is_exists(&self) -> bool {
        self.is(&[Errno::EEXIST])
    }

    /// The object is not there (any more): no such link, address, route or file.
    pub fn is_absent(&self) -> bool {
        self.is(&[
            Errno::ENOENT,
            Errno::ENODEV,
            Errno::ENXIO,
            Errno::ESRCH,
            Errno::EADDRNOTAVAIL,
        ])
    }

    /// Nothing leads there (ENETUNREACH, EHOSTUNREACH), or a route says that nothing is to.
    pub fn is_unreachable(&self) -> bool {
        self.is(&[Errno::ENETUNREACH, Errno::EHOSTUNREACH])
    }

    /// EBUSY: the device is in use in a way that excludes the request.
    pub fn is_busy(&self) -> bool {
        self.is(&[Errno::EBUSY])
    }

    /// EADDRINUSE: another macvlan of the same parent has that MAC.
    pub fn is_address_in_use(&self) -> bool {
        self.is(&[Errno::EADDRINUSE])
    }

    /// EPERM or EACCES: a capability is missing.
    pub fn is_denied(&self) -> bool {
        self.is(&[Errno::EPERM, Errno::EACCES])
    }

    /// EINVAL: a value is impossible, or does not go with the rest.
    pub fn is_invalid(&self) -> bool {
        self.is(&[Errno::EINVAL])
    }

    /// EOPNOTSUPP: this kernel lacks the module or the feature.
    pub fn is_unsupported(&self) -> bool {
        self.is(&[Errno::EOPNOTSUPP])
    }

    fn is(&self, errnos: &[Errno]) -> bool {
        matches!(&self.cause, Cause::Kernel { errno, .. } if errnos.contains(errno))
    }

    /// The refusal with this number and text, for the tests of those who tell refusals apart.
    pub fn refusal(what: impl Into<String>, errno: i32, text: Option<&str>) -> Error {
        Error::kernel(what, Errno::from_raw(errno), text.map(str::to_owned))
    }

    pub(crate) fn new(what: impl Into<String>, errno: Errno) -> Error {
        Error {
            what: what.into(),
            cause: Cause::Kernel { errno, text: None },
        }
    }

    pub(crate) fn kernel(what: impl Into<String>, errno: Errno, text: Option<String>) -> Error {
        Error {
            what: what.into(),
            cause: Cause::Kernel { errno, text },
        }
    }

    pub(crate) fn answer(what: impl Into<String>, problem: impl fmt::Display) -> Error {
        Error {
            what: what.into(),
            cause: Cause::Answer(problem.to_string()),
        }
    }

    /// A request that failed at a system call other than the kernel's answer to it.
    pub fn io(what: impl Into<String>, error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(number) => Error::new(what, Errno::from_raw(number)),
            None => Error::answer(what, error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Kernel { errno, text: None } => {
                write!(f, "{}: {} ({errno:?})", self.what, errno.desc())
            }
            Cause::Kernel {
                errno,
                text: Some(text),
            } => {
                write!(f, "{}: {text} ({errno:?}, {})", self.what, errno.desc())
            }
            Cause::Answer(problem) => {
                write!(
                    f,
                    "{}: the kernel's answer was not understood: {problem}",
                    self.what
                )
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_asked_and_what_the_kernel_said() {
        let plain = Error::new("set eth0 up", Errno::EBUSY);
        assert_eq!(
            plain.to_string(),
            "set eth0 up: Device or resource busy (EBUSY)"
        );
        let explained = Error::kernel(
            "create macvlan eth0",
            Errno::EINVAL,
            Some("Bad mode".to_owned()),
        );
        assert_eq!(
            explained.to_string(),
            "create macvlan eth0: Bad mode (EINVAL, Invalid argument)"
        );
        assert_eq!(explained.kernel_text(), Some("Bad mode"));
        assert_eq!(explained.errno(), Some(22));
    }

    #[test]
    fn its_conditions_can_be_tested() {
        assert!(Error::new("", Errno::EEXIST).is_exists());
        assert!(Error::new("", Errno::ENODEV).is_absent());
        assert!(Error::new("", Errno::EPERM).is_denied());
        assert!(!Error::answer("", "short").is_exists());
    }
}
