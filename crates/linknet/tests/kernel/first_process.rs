//! What this program leaves to be reaped, as the first process of a PID namespace.

use std::env::current_exe;
use std::fs;
use std::process::Command;

use libtest_mimic::Failed;
use linknet::nft::Nft;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};

use crate::{Space, Test};

crate::tests![a_child_waits_only_where_somebody_reaps_it];

fn a_child_waits_only_where_somebody_reaps_it() -> Test {
    for name in [INIT, "sleep"] {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(current_exe()?)
            .args([GUEST, name]);
        let output = command.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "as {name}: {errors}");
    }
    Ok(())
}

/// The argument that makes this program run [`guest`] only, with the name that follows.
pub(crate) const GUEST: &str = "--first-process";

/// The name of a first process that reaps.
const INIT: &str = "init";

/// What runs as a first process of this name.
pub(crate) fn guest(name: &str) -> Test {
    fs::write("/proc/self/comm", name)?;
    let waits = usize::from(name == INIT);

    let pipe = || pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
    let opened_before = pipe()?;
    let space = Space::new()?;
    let opened_after = pipe()?;
    space.ip("link add eth0 type bridge")?;
    let link = space.link("eth0")?;
    space.netlink.delete_link_nowait(&space.netns, link.index)?;
    assert_eq!(space.netlink.link("eth0")?, None);
    assert_eq!(children()?, waits, "after a link was deleted");
    for (reader, writer) in [opened_before, opened_after] {
        drop(writer);
        assert_eq!(read(&reader, &mut [0]), Ok(0), "the child has a copy");
    }

    Nft::open_in(&space.netns)?.close_nowait();
    assert_eq!(children()?, 2 * waits, "after a socket was closed");
    Ok(())
}

/// How many children this thread has that nobody has reaped.
fn children() -> Result<usize, Failed> {
    let children = fs::read_to_string("/proc/thread-self/children")?;
    Ok(children.split_whitespace().count())
}
