//! Binding a socket under a lock, in place of the socket file of a daemon that was killed.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, listen, socket_with,
};

use super::error::ListenError;

/// Binds `path`, replacing a socket file that no process listens on. Returns the socket and the
/// lock that keeps other daemons away. The socket is usable by its owner only (0600), or by `group`
/// too (0660).
pub(super) fn bind(path: &Path, group: Option<u32>) -> Result<(UnixListener, File), ListenError> {
    let failed = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| ListenError::Io { what, path, source }
    };
    if let Some(directory) = path.parent() {
        create_directory(directory, group).map_err(failed("create", directory))?;
    }
    let lock_path = lock_file(path);
    let lock = open_lock(&lock_path).map_err(failed("open the lock", &lock_path))?;
    lock.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock if path.exists() => ListenError::Taken(path.to_path_buf()),
        TryLockError::WouldBlock => ListenError::Unreachable(path.to_path_buf()),
        TryLockError::Error(error) => failed("lock", &lock_path)(error),
    })?;
    remove_dead_socket(path)?;
    let socket = listen_for_owner(path).map_err(failed("bind", path))?;
    if group.is_some() {
        chown(path, None, group).map_err(failed("set the group of", path))?;
        let mode = fs::Permissions::from_mode(0o660);
        fs::set_permissions(path, mode).map_err(failed("set the mode of", path))?;
    }
    Ok((socket, lock))
}

/// Creates the socket's directory if it is missing: for its owner only (0700), or for `group` too
/// (0750). One that exists stays as it is.
fn create_directory(directory: &Path, group: Option<u32>) -> io::Result<()> {
    if directory.is_dir() {
        warn_if_closed_to(directory, group);
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    if group.is_some() {
        chown(directory, None, group)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// Warns if the mode of the directory keeps the group from the socket in it.
fn warn_if_closed_to(directory: &Path, group: Option<u32>) {
    let (Some(group), Ok(metadata)) = (group, directory.metadata()) else {
        return;
    };
    if !may_enter(metadata.mode(), metadata.gid(), group) {
        tracing::warn!(
            directory = %directory.display(),
            group,
            "the group that -group admits may not enter the socket's directory"
        );
    }
}

/// Whether a process of `group` may enter a directory with this mode and this group.
fn may_enter(mode: u32, directory_group: u32, group: u32) -> bool {
    let search = match directory_group == group {
        true => 0o010,
        false => 0o001,
    };
    mode & search != 0
}

/// Warns if everybody can create files in the directory of a socket. The plugins believe only a
/// daemon of root, of their own user, or of the directory's owner.
pub(super) fn warn_if_open_to_all(socket: &Path) {
    let Some(directory) = socket.parent() else {
        return;
    };
    let is_open = directory
        .metadata()
        .is_ok_and(|metadata| metadata.mode() & 0o002 != 0);
    if is_open {
        tracing::warn!(
            directory = %directory.display(),
            "everybody may create files in the socket's directory, so any user can listen on that \
             path while no daemon does: root's plugins do not believe such a process, but ADD fails \
             until it is gone. Choose a -socketpath in a directory that only root can write"
        );
    }
}

/// Listens on a new socket that is usable by its owner only.
fn listen_for_owner(path: &Path) -> io::Result<UnixListener> {
    /// As long as the system allows (`net.core.somaxconn`).
    const BACKLOG: i32 = i32::MAX;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // The kernel gives the file the mode that the socket has, as far as the umask allows. Changing
    // the umask instead would affect other threads.
    fchmod(&socket, Mode::from_raw_mode(0o600))?;
    bind_to(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The file whose lock a daemon holds while it listens on a socket that it has bound.
pub(super) fn lock_file(socket: &Path) -> PathBuf {
    socket.with_added_extension("lock")
}

/// Opens a socket's lock file, and creates it if it is missing. A process that can open it can hold
/// the lock, so only its owner may.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    // A symbolic link or a named pipe in its place is an error, rather than followed or waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // Earlier releases let others open it.
    lock.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(lock)
}

/// Removes the socket file of a daemon that was killed. We hold the lock, so a process that still
/// answers there is another implementation, which does not use the lock.
fn remove_dead_socket(path: &Path) -> Result<(), ListenError> {
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Taken(path.to_path_buf())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            fs::remove_file(path).map_err(|source| ListenError::Io {
                what: "remove the dead socket",
                path: path.to_path_buf(),
                source,
            })
        }
        Err(_) if !is_socket(path) => Err(ListenError::NotASocket(path.to_path_buf())),
        Err(source) => Err(ListenError::Io {
            what: "connect to",
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::process::log::testing::logged;

    #[test]
    fn a_directory_that_all_may_write_or_the_group_may_not_enter_is_worth_a_warning() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path();
        let gid = fs::metadata(directory).expect("it exists").gid();
        for (mode, warnings) in [
            (0o710, 0),
            (0o755, 0),
            (0o700, 1), // the group may not enter
            (0o777, 1), // all may write
            (0o702, 2),
        ] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory, mode.clone()).expect("it is ours");
            let log = logged(|| {
                warn_if_open_to_all(&directory.join("dhcp.sock"));
                create_directory(directory, Some(gid)).expect("it exists");
                create_directory(directory, None).expect("it exists");
            });
            assert_eq!(log.lines().count(), warnings, "{mode:?}: {log}");
        }
    }

    #[test]
    fn a_group_enters_its_own_directory_by_one_bit_and_others_by_another() {
        const OWN: u32 = 100;
        const OTHER: u32 = 200;
        for (mode, own, other) in [
            (0o755, true, true),
            (0o750, true, false),
            (0o705, false, true),
            (0o766, false, false),
        ] {
            let enters = [may_enter(mode, OWN, OWN), may_enter(mode, OTHER, OWN)];
            assert_eq!(enters, [own, other], "{mode:o}");
        }
    }
}
