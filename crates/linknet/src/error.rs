//! Errors of requests to the kernel.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The result of a request to the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that the kernel refused, or that could not be made.
///
/// Its text says what was requested, for which object, and why it failed: the errno, and the
/// kernel's own explanation (the text of an extended acknowledgement) if it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: String,
    cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// The kernel's answer, or the failure of a system call before it.
    Kernel { errno: Errno, text: Option<String> },
    /// The kernel's answer could not be decoded.
    Answer(String),
}

impl Error {
    /// The errno (`EBUSY` and so on), if there is one.
    pub fn errno(&self) -> Option<i32> {
        match &self.cause {
            Cause::Kernel { errno, .. } => Some(*errno as i32),
            Cause::Answer(_) => None,
        }
    }

    /// The kernel's explanation in addition to the errno, such as "Device can not be enslaved while
    /// up".
    pub fn kernel_text(&self) -> Option<&str> {
        match &self.cause {
            Cause::Kernel { text, .. } => text.as_deref(),
            Cause::Answer(_) => None,
        }
    }

    /// EEXIST: there already is an object with that name, address or destination.
    pub fn is_exists(&self) -> bool {
        self.is(&[Errno::EEXIST])
    }

    /// The object does not exist, or no longer: no such link, address, route or file.
    pub fn is_absent(&self) -> bool {
        self.is(&[
            Errno::ENOENT,
            Errno::ENODEV,
            Errno::ENXIO,
            Errno::ESRCH,
            Errno::EADDRNOTAVAIL,
        ])
    }

    /// There is no route (ENETUNREACH, EHOSTUNREACH), or a route that rejects packets.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is(&[Errno::ENETUNREACH, Errno::EHOSTUNREACH])
    }

    /// EBUSY: the device is in use in a way that conflicts with the request.
    pub fn is_busy(&self) -> bool {
        self.is(&[Errno::EBUSY])
    }

    /// EADDRINUSE: another macvlan on the same parent has that MAC.
    pub fn is_address_in_use(&self) -> bool {
        self.is(&[Errno::EADDRINUSE])
    }

    /// EPERM or EACCES: a capability is missing.
    pub fn is_denied(&self) -> bool {
        self.is(&[Errno::EPERM, Errno::EACCES])
    }

    /// EMFILE, ENFILE, ENOMEM, ENOBUFS: the process or the machine is short of descriptors or
    /// memory, perhaps only for now.
    pub fn is_exhausted(&self) -> bool {
        self.is(&[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS])
    }

    /// EMSGSIZE, ENOBUFS: an object is too long for the kernel to list it with the others.
    pub fn is_too_long(&self) -> bool {
        self.is(&[Errno::EMSGSIZE, Errno::ENOBUFS])
    }

    /// E2BIG: a list is longer than its reader allows
    /// ([`Netlink::limited`](crate::Netlink::limited)).
    pub fn is_too_many(&self) -> bool {
        self.is(&[Errno::E2BIG])
    }

    /// EINVAL: a value is invalid, or conflicts with others.
    pub fn is_invalid(&self) -> bool {
        self.is(&[Errno::EINVAL])
    }

    /// The kernel understood the request and rejected its values: they are invalid (EINVAL), or
    /// lead nowhere (ENETUNREACH, EHOSTUNREACH). Another attempt would fail too.
    pub fn is_rejected(&self) -> bool {
        self.is_invalid() || self.is_unreachable()
    }

    /// EOPNOTSUPP: this kernel lacks the module or the feature.
    pub fn is_unsupported(&self) -> bool {
        self.is(&[Errno::EOPNOTSUPP])
    }

    /// EINTR: a list changed during every attempt to read it.
    pub fn is_interrupted(&self) -> bool {
        self.is(&[Errno::EINTR])
    }

    /// The same error, with this explanation unless the kernel gave one.
    pub(crate) fn explained(self, why: impl FnOnce() -> Option<String>) -> Error {
        match self.cause {
            Cause::Kernel { errno, text } => Error::kernel(self.what, errno, text.or_else(why)),
            Cause::Answer(_) => self,
        }
    }

    fn is(&self, errnos: &[Errno]) -> bool {
        matches!(&self.cause, Cause::Kernel { errno, .. } if errnos.contains(errno))
    }

    /// An error with this errno and explanation, for a caller that refuses something itself the way
    /// the kernel would. `what` is the request, such as "create macvlan eth0 on link 2".
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

    /// An error from a system call. `what` is the request that it was made for.
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
                    "{}: cannot decode the kernel's answer: {problem}",
                    self.what
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// The outcome of a removal, in which an object that is gone already needs no removal.
///
/// # Errors
/// Any but those for which [`Error::is_absent`] is true.
pub fn or_absent(removed: Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.is_absent() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_states_the_request_the_errno_and_the_kernels_explanation() {
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
    fn each_errno_has_its_condition_and_no_other() {
        type Condition = (&'static str, fn(&Error) -> bool);
        let conditions: [Condition; 12] = [
            ("exists", Error::is_exists),
            ("absent", Error::is_absent),
            ("unreachable", Error::is_unreachable),
            ("busy", Error::is_busy),
            ("address in use", Error::is_address_in_use),
            ("denied", Error::is_denied),
            ("invalid", Error::is_invalid),
            ("unsupported", Error::is_unsupported),
            ("rejected", Error::is_rejected),
            ("exhausted", Error::is_exhausted),
            ("interrupted", Error::is_interrupted),
            ("too many", Error::is_too_many),
        ];
        let fulfilled = |error: &Error| -> Vec<&str> {
            let fulfilled = conditions.iter().filter(|(_, is)| is(error));
            fulfilled.map(|(name, _)| *name).collect()
        };
        for (errno, expected) in [
            (Errno::EEXIST, &["exists"][..]),
            (Errno::ENOENT, &["absent"]),
            (Errno::ENODEV, &["absent"]),
            (Errno::ENXIO, &["absent"]),
            (Errno::ESRCH, &["absent"]),
            (Errno::EADDRNOTAVAIL, &["absent"]),
            (Errno::ENETUNREACH, &["unreachable", "rejected"]),
            (Errno::EHOSTUNREACH, &["unreachable", "rejected"]),
            (Errno::EBUSY, &["busy"]),
            (Errno::EADDRINUSE, &["address in use"]),
            (Errno::EPERM, &["denied"]),
            (Errno::EACCES, &["denied"]),
            (Errno::EINVAL, &["invalid", "rejected"]),
            (Errno::EOPNOTSUPP, &["unsupported"]),
            (Errno::EMFILE, &["exhausted"]),
            (Errno::ENFILE, &["exhausted"]),
            (Errno::ENOMEM, &["exhausted"]),
            (Errno::ENOBUFS, &["exhausted"]),
            (Errno::EINTR, &["interrupted"]),
            (Errno::E2BIG, &["too many"]),
            (Errno::EIO, &[]),
        ] {
            let plain = Error::new("", errno);
            assert_eq!(fulfilled(&plain), expected, "{errno}");
            let explained = Error::kernel("", errno, Some("why".to_owned()));
            assert_eq!(fulfilled(&explained), expected, "{errno}");
        }
        let undecodable = Error::answer("", "short");
        assert!(fulfilled(&undecodable).is_empty());
        assert_eq!(
            (undecodable.errno(), undecodable.kernel_text()),
            (None, None)
        );
    }

    #[test]
    fn the_kernels_explanation_comes_before_ours() {
        let ours = || Some("ours".to_owned());
        let plain = Error::new("", Errno::EPERM);
        assert_eq!(plain.clone().explained(ours).kernel_text(), Some("ours"));
        assert_eq!(plain.clone().explained(|| None), plain);
        let explained = Error::kernel("", Errno::EPERM, Some("the kernel's".to_owned()));
        assert_eq!(explained.clone().explained(ours), explained);
        let undecodable = Error::answer("", "short");
        assert_eq!(undecodable.clone().explained(ours), undecodable);
    }

    #[test]
    fn an_error_of_a_system_call_keeps_its_errno() {
        let refused = Error::io("open x", &io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(refused.errno(), Some(libc::EMFILE));
        let other = Error::io("open x", &io::Error::other("odd"));
        assert_eq!(other.errno(), None);
        assert!(other.to_string().contains("odd"), "{other}");
    }

    #[test]
    fn only_the_removal_of_an_absent_object_succeeds_nevertheless() {
        assert_eq!(or_absent(Ok(())), Ok(()));
        assert_eq!(or_absent(Err(Error::new("", Errno::ESRCH))), Ok(()));
        let busy = Error::new("", Errno::EBUSY);
        assert_eq!(or_absent(Err(busy.clone())), Err(busy));
    }

    #[test]
    fn a_caller_can_refuse_as_the_kernel_would() {
        let error = Error::refusal("create eth0", libc::EBUSY, Some("not now"));
        assert!(error.is_busy());
        assert_eq!(error.kernel_text(), Some("not now"));
    }
}
