//! Socket options that nix does not know.
#![allow(unsafe_code, reason = "setsockopt(2) takes a pointer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, setsockopt, socklen_t};

/// Sets an option whose value is a `T`.
///
/// # Safety
/// `T` must be the type that the kernel expects for the option, and what it points to must be as
/// the kernel expects.
pub(crate) unsafe fn set<T>(
    socket: impl AsFd,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let pointer: *const T = value;
    // SAFETY: pointer and length describe `value`, which outlives the call; the rest is the
    // caller's promise.
    let result = unsafe {
        setsockopt(
            fd,
            level,
            option,
            pointer.cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    nix::errno::Errno::result(result)
        .map(|_| ())
        .map_err(io::Error::from)
}
