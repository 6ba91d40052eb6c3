//! Kernel settings below `/proc/sys/net`, which every network namespace has for itself.

use std::path::PathBuf;

use crate::{Error, Result};

/// Sets the setting of this path, such as `["ipv4", "conf", "eth0", "arp_notify"]`, in the calling
/// thread's namespace. A name with dots in it (`eth0.5`) is one element.
///
/// What has the value already is not written: a container's `/proc/sys` is mostly read-only, and
/// what was set from outside is all right in it.
///
/// # Errors
/// `is_absent` if there is no such setting: the link is gone, or the kernel is without IPv6.
pub fn set(path: &[&str], value: &str) -> Result<()> {
    if get(path)? == value {
        return Ok(());
    }
    let file: PathBuf = ["/proc/sys/net"].iter().chain(path).collect();
    std::fs::write(&file, value)
        .map_err(|error| Error::io(format!("write {value} to {}", file.display()), &error))
}

/// Reads a setting; see [`set`].
///
/// # Errors
/// As for [`set`].
pub fn get(path: &[&str]) -> Result<String> {
    let file: PathBuf = ["/proc/sys/net"].iter().chain(path).collect();
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(Error::io(format!("read {}", file.display()), &error)),
    }
}
