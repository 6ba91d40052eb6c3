//! `dhcp install DIRECTORY`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::advice::advice;

/// The plugins of a release.
const PLUGINS: [&str; 2] = ["macvlan", "dhcp"];

/// Copies the plugins from the directory of this program into `directory`.
pub(super) fn install(directory: &Path) -> Result<String, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot determine the path of this executable: {error}"))?;
    install_from(program.parent().unwrap_or(Path::new("/")), directory)
}

fn install_from(source: &Path, directory: &Path) -> Result<String, String> {
    create(directory).map_err(|error| {
        let advice = advice(&error);
        format!("cannot create {}: {error}{advice}", directory.display())
    })?;
    for plugin in PLUGINS {
        let (from, to) = (source.join(plugin), directory.join(plugin));
        replace(&from, &to).map_err(|error| {
            let advice = advice(&error);
            format!(
                "cannot copy {} to {}: {error}{advice}",
                from.display(),
                to.display()
            )
        })?;
    }
    Ok(format!(
        "{} are in {}",
        PLUGINS.join(" and "),
        directory.display()
    ))
}

/// Creates a directory and those above it, which any user may enter, whatever the umask is: a
/// runtime that cannot enter them has no network.
fn create(directory: &Path) -> io::Result<()> {
    let missing = directory.ancestors().filter(|path| {
        // The current directory has an empty path.
        !path.as_os_str().is_empty() && !path.exists()
    });
    let missing: Vec<&Path> = missing.collect();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755))?,
            // Another process was faster.
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies a program to a temporary name beside its destination, then renames it. The copy is synced
/// to disk first: a plugin that is empty after a power failure would keep every container from
/// starting.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut copy = tempfile::Builder::new()
        .prefix(".leasehold-")
        .tempfile_in(to.parent().unwrap_or(Path::new(".")))?;
    io::copy(&mut source, copy.as_file_mut())?;
    copy.as_file()
        .set_permissions(Permissions::from_mode(0o755))?;
    copy.as_file().sync_all()?;
    // The file is closed first: one that is open for writing cannot be executed (ETXTBSY).
    copy.into_temp_path()
        .persist(to)
        .map_err(|refused| refused.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_installed_plugin_is_replaced_while_a_running_one_is_left_untouched() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let (source, directory) = (
            scratch.path().join("image"),
            scratch.path().join("opt/cni/bin"),
        );
        fs::create_dir_all(&source).expect("creating it");
        let provide = |version: &str| {
            PLUGINS
                .iter()
                .for_each(|plugin| fs::write(source.join(plugin), version).expect("writing"));
        };

        provide("one");
        let told = install_from(&source, &directory).expect("nothing is in the way");
        assert_eq!(
            told,
            format!("macvlan and dhcp are in {}", directory.display())
        );
        let running = fs::File::open(directory.join("dhcp")).expect("it is there");
        provide("two");
        install_from(&source, &directory).expect("a second time");

        assert_eq!(
            io::read_to_string(running).expect("it is still open"),
            "one"
        );
        for plugin in PLUGINS {
            assert_eq!(
                fs::read_to_string(directory.join(plugin)).expect("it is there"),
                "two"
            );
            assert_eq!(
                fs::metadata(directory.join(plugin))
                    .expect("it is there")
                    .mode()
                    & 0o7777,
                0o755
            );
        }
        assert_eq!(
            fs::read_dir(&directory).expect("it is there").count(),
            PLUGINS.len(),
            "nothing else is left"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_an_error_and_one_that_exists_is_none() {
        assert!(create(Path::new("/dev/null/bin")).is_err());
        assert!(create(Path::new("src")).is_ok(), "a relative path");
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        assert!(create(&link).is_err());
    }

    #[test]
    fn the_plugins_beside_the_program_are_installed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let program = std::env::current_exe().expect("the path of this test");
        // There are no plugins beside it.
        let error = install(scratch.path()).expect_err("a test is not a plugin");
        let missing = program.with_file_name("macvlan");
        assert!(error.contains(&missing.display().to_string()), "{error}");
    }

    #[test]
    fn a_plugin_that_cannot_be_copied_is_named_and_leaves_no_file() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let error = install_from(&scratch.path().join("empty"), scratch.path())
            .expect_err("there is nothing");
        assert!(error.contains("empty/macvlan"), "{error}");
        assert_eq!(
            fs::read_dir(scratch.path()).expect("it is there").count(),
            0
        );
    }
}
