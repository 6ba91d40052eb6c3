//! Kernel settings below `/proc/sys/net`. Each network namespace has its own.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Sets a setting, such as `["ipv4", "conf", "eth0", "arp_notify"]`, in the calling thread's
/// namespace. A name that contains dots (`eth0.5`) is a single element.
///
/// A setting that cannot be written may have the value already: `/proc/sys` is usually read-only in
/// a container.
///
/// # Errors
/// `is_absent` if there is no such setting: the link is gone, or the kernel lacks IPv6.
pub fn set(path: &[&str], value: &str) -> Result<()> {
    let file: PathBuf = ["/proc/sys/net"].iter().chain(path).collect();
    // Without O_CREAT: the kernel answers that with EACCES where there is no such setting.
    let opened = File::options().write(true).open(&file);
    match opened.and_then(|mut setting| setting.write_all(value.as_bytes())) {
        Err(_) if get(path).is_ok_and(|present| present == value) => Ok(()),
        written => written
            .map_err(|error| Error::io(format!("write {value} to {}", file.display()), &error)),
    }
}

/// Reads a setting; see [`set`].
///
/// # Errors
/// As [`set`].
pub fn get(path: &[&str]) -> Result<String> {
    let file: PathBuf = ["/proc/sys/net"].iter().chain(path).collect();
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(Error::io(format!("read {}", file.display()), &error)),
    }
}
