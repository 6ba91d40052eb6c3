//! Errors of the kernel as errors of a plugin.

use std::fmt::Display;

use cni::{Error, code};
use linknet::NetnsError;

use crate::codes;

/// Turns the kernel's refusal of a request into the error for the runtime.
pub trait KernelError<T> {
    /// The kernel could not be asked, or refused for a reason other than the configuration: code
    /// 111, or 11 where another process holds a lock.
    ///
    /// # Errors
    /// The refusal, if there is one.
    fn or_kernel_error(self) -> Result<T, Error>;

    /// The kernel rejected a value from the configuration or from IPAM: code 7; 111 if only a
    /// capability was missing, and 11 where another process holds a lock.
    ///
    /// # Errors
    /// The refusal, if there is one.
    fn or_rejected(self) -> Result<T, Error>;
}

impl<T> KernelError<T> for linknet::Result<T> {
    fn or_kernel_error(self) -> Result<T, Error> {
        self.map_err(|error| kernel_error(kernel_code(&error), &error))
    }

    fn or_rejected(self) -> Result<T, Error> {
        self.map_err(|error| {
            let code = match kernel_code(&error) {
                codes::KERNEL if !error.is_denied() => code::INVALID_NETWORK_CONFIG,
                code => code,
            };
            kernel_error(code, &error)
        })
    }
}

fn kernel_error(code: u32, error: &linknet::Error) -> Error {
    let what = Error::new(code, format!("cannot {error}"));
    with_advice(what, error.is_denied() && error.kernel_text().is_none())
}

/// The error for a container's namespace that cannot be opened: 3 if it is gone, 4 if CNI_NETNS
/// names something else, and the code `otherwise` if opening it fails.
pub fn cannot_open_netns(error: &NetnsError, otherwise: u32) -> Error {
    let code = match error {
        NetnsError::NotFound(_) => code::UNKNOWN_CONTAINER,
        NetnsError::NotNetns(_) => code::INVALID_ENVIRONMENT,
        NetnsError::Io { .. } => otherwise,
    };
    let what = Error::new(code, format!("CNI_NETNS: {error}"));
    with_advice(what, error.is_denied())
}

fn with_advice(error: Error, is_denied: bool) -> Error {
    match is_denied {
        true => error.details(NEEDS_ROOT),
        false => error,
    }
}

/// What to do where the kernel denies something without an explanation.
const NEEDS_ROOT: &str = "the plugins need root's capabilities in the host's namespaces, \
                              CAP_NET_ADMIN and CAP_SYS_ADMIN among them: run them as root";

/// The code for a failed request: 11 where another process holds a lock, and 111 else.
pub fn kernel_code(error: &linknet::Error) -> u32 {
    match error.errno() {
        Some(libc::EWOULDBLOCK) => code::TRY_AGAIN_LATER,
        _ => codes::KERNEL,
    }
}

/// CHECK's error for an interface that is not as ADD made it: code 110, naming the difference.
pub fn differs(ifname: &str, difference: impl Display) -> Error {
    let what = format!("{ifname} is not as ADD made it: {difference}");
    Error::new(codes::DIFFERS, what)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_refusal_has_a_code_by_what_can_be_done_about_it() {
        for (errno, kernel, rejected) in [
            (
                libc::ENETUNREACH,
                codes::KERNEL,
                code::INVALID_NETWORK_CONFIG,
            ),
            (libc::EPERM, codes::KERNEL, codes::KERNEL),
            (
                libc::EWOULDBLOCK,
                code::TRY_AGAIN_LATER,
                code::TRY_AGAIN_LATER,
            ),
        ] {
            let refused = || -> linknet::Result<()> {
                Err(linknet::Error::refusal("set eth0 up", errno, None))
            };
            let error = refused().or_kernel_error().unwrap_err();
            assert_eq!(error.code, kernel, "{error:?}");
            assert!(error.msg.starts_with("cannot set eth0 up: "), "{error:?}");
            let error = refused().or_rejected().unwrap_err();
            assert_eq!(error.code, rejected, "{error:?}");
        }
        assert_eq!(Ok(7).or_kernel_error(), Ok(7));
        assert_eq!(Ok(7).or_rejected(), Ok(7));
    }

    #[test]
    fn a_namespace_that_cannot_be_opened_has_a_code_by_the_reason() {
        let failed = |kind: io::ErrorKind| NetnsError::Io {
            path: PathBuf::from("/run/netns/c1"),
            error: kind.into(),
        };
        for (error, code, advice) in [
            (
                NetnsError::NotFound(PathBuf::from("/run/netns/c1")),
                code::UNKNOWN_CONTAINER,
                "",
            ),
            (
                NetnsError::NotNetns(PathBuf::from("/run/netns/c1")),
                code::INVALID_ENVIRONMENT,
                "",
            ),
            (failed(io::ErrorKind::Other), codes::KERNEL, ""),
            (
                failed(io::ErrorKind::PermissionDenied),
                codes::KERNEL,
                NEEDS_ROOT,
            ),
        ] {
            let text = format!("CNI_NETNS: {error}");
            let expected = Error::new(code, text).details(advice);
            assert_eq!(cannot_open_netns(&error, codes::KERNEL), expected);
        }
    }

    #[test]
    fn details_are_added_to_those_that_are_there() {
        let error = differs("eth0", "it is down").and_details("first");
        assert_eq!((error.code, error.details.as_str()), (110, "first"));
        assert_eq!(error.and_details("second").details, "first; second");
    }
}
