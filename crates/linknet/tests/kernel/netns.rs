//! Namespaces.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::thread;

use linknet::{Netlink, Netns, NetnsError, NewMacvlan};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::{HOST, Space, Test, new_netns};

crate::tests![
    a_path_that_does_not_exist_is_not_found,
    a_file_that_is_not_a_network_namespace_is_refused,
    a_file_that_is_no_namespace_is_not_opened,
    a_function_runs_in_the_namespace_and_its_caller_stays_outside,
    a_command_spawned_in_a_namespace_stays_in_it,
    a_panic_in_the_namespace_continues_outside,
    a_namespace_can_be_entered_without_a_way_back_to_the_callers,
    handles_on_one_namespace_have_one_id,
    a_namespace_has_the_number_that_links_give_for_their_parents,
    a_socket_stays_in_its_namespace_and_sees_no_other,
    a_sockets_namespace_can_be_found,
    a_namespace_belongs_to_who_created_it,
];

fn a_path_that_does_not_exist_is_not_found() -> Test {
    for path in [
        "/run/nothing",
        "/proc/999999999/ns/net",
        "/proc/self/comm/below",
    ] {
        let error = Netns::open(path).expect_err(path);
        assert!(
            matches!(&error, NetnsError::NotFound(at) if at == Path::new(path)),
            "{error:?}"
        );
        assert!(error.to_string().contains(path), "{error}");
    }
    Ok(())
}

fn a_file_that_is_not_a_network_namespace_is_refused() -> Test {
    fs::write("/run/left-behind", "")?;
    mkfifo("/run/fifo", Mode::S_IRWXU)?; // must not be waited for
    for path in [
        "/run/left-behind",
        "/run/fifo",
        "/run",
        "/proc/self/ns/uts",
        "/proc/self/status",
    ] {
        let error = Netns::open(path).expect_err(path);
        assert!(
            matches!(&error, NetnsError::NotNetns(at) if at == Path::new(path)),
            "{error:?}"
        );
    }
    let file = fs::File::open("/run/left-behind")?;
    assert!(matches!(
        Netns::from_fd(file.into()),
        Err(NetnsError::NotNetns(_))
    ));
    Ok(())
}

fn a_file_that_is_no_namespace_is_not_opened() -> Test {
    // A device does something when it is opened; a file only says that it was.
    fs::write("/run/device", "")?;
    let opened = Inotify::init(InitFlags::IN_NONBLOCK)?;
    opened.add_watch("/run/device", AddWatchFlags::IN_OPEN)?;
    let refused = Netns::open("/run/device").expect_err("a file");
    assert!(matches!(refused, NetnsError::NotNetns(_)), "{refused:?}");
    assert_eq!(opened.read_events().err(), Some(Errno::EAGAIN));
    fs::File::open("/run/device")?;
    assert_eq!(opened.read_events()?.len(), 1);
    Ok(())
}

fn a_namespace_belongs_to_who_created_it() -> Test {
    assert_eq!(new_netns()?.owner()?, 0);
    // The user namespace that owns it is above that of the tests.
    let above = HOST.get().ok_or("the host's namespace")?;
    let error = above.owner().expect_err("out of sight");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    Ok(())
}

fn a_function_runs_in_the_namespace_and_its_caller_stays_outside() -> Test {
    let here = Netns::current()?.id()?;
    let there = new_netns()?;
    let thread = thread::current().id();
    let is_same = there.run(|| thread::current().id() == thread)?;
    assert!(is_same, "another thread would take long to start");
    let inside = there.run(|| Netns::current().map(|netns| netns.id()))???;
    assert_eq!(inside, there.id()?);
    assert_ne!(inside, here);
    assert_eq!(Netns::current()?.id()?, here);
    Ok(())
}

fn a_command_spawned_in_a_namespace_stays_in_it() -> Test {
    let netns = new_netns()?;
    let mut command = Command::new("readlink");
    let output = netns.run(|| command.arg("/proc/self/ns/net").output())??;
    assert_eq!(
        String::from_utf8(output.stdout)?.trim_end(),
        netns.id()?.to_string()
    );
    Ok(())
}

fn a_panic_in_the_namespace_continues_outside() -> Test {
    let here = Netns::current()?.id()?;
    let netns = new_netns()?;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        netns.run(|| std::panic::panic_any("inside"))
    }));
    assert_eq!(
        panic.expect_err("it panicked").downcast_ref(),
        Some(&"inside")
    );
    assert_eq!(Netns::current()?.id()?, here);
    Ok(())
}

fn a_namespace_can_be_entered_without_a_way_back_to_the_callers() -> Test {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe()?)
        .arg(GUEST);
    let output = command.output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The argument that makes this program run [`guest`] only.
pub(crate) const GUEST: &str = "--guest-of-another-user-namespace";

/// What runs in a user namespace that does not own its network namespace.
pub(crate) fn guest() -> Test {
    let home = Netns::current()?;
    assert!(
        setns(&home, CloneFlags::CLONE_NEWNET).is_err(),
        "this is what makes it a guest"
    );
    let netns = new_netns()?;
    assert_eq!(
        netns.run(|| Netns::current().map(|netns| netns.id()))???,
        netns.id()?
    );
    assert_eq!(Netns::current()?.id()?, home.id()?);
    Ok(())
}

fn handles_on_one_namespace_have_one_id() -> Test {
    let (one, other) = (new_netns()?, new_netns()?);
    assert_eq!(one.id()?, one.try_clone()?.id()?);
    assert_ne!(one.id()?, other.id()?);
    Ok(())
}

fn a_namespace_has_the_number_that_links_give_for_their_parents() -> Test {
    let (host, container, other) = (Space::new()?, Space::new()?, Space::new()?);
    let parent = host.plug("eth1")?.index;
    assert_eq!(
        container.netlink.nsid(&host.netns)?,
        None,
        "no link refers to it yet"
    );
    host.netlink.add_macvlan(
        &NewMacvlan::new("eth0", parent),
        &container.netns,
        &container.netlink,
    )?;
    let link = container.link("eth0")?;
    assert!(link.parent_netnsid.is_some());
    assert_eq!(container.netlink.nsid(&host.netns)?, link.parent_netnsid);
    assert_eq!(container.netlink.nsid(&other.netns)?, None);
    Ok(())
}

fn a_sockets_namespace_can_be_found() -> Test {
    let space = Space::new()?;
    assert_eq!(Netns::of_socket(&space.netlink)?.id()?, space.netns.id()?);
    assert_ne!(
        Netns::of_socket(&Netlink::open()?)?.id()?,
        space.netns.id()?
    );
    Ok(())
}

fn a_socket_stays_in_its_namespace_and_sees_no_other() -> Test {
    let space = Space::new()?;
    space.ip("link add only-there type bridge")?;
    let Space { netns, netlink, .. } = space;
    drop(netns);
    assert!(netlink.link("only-there")?.is_some());
    assert!(Netlink::open()?.link("only-there")?.is_none());
    Ok(())
}
