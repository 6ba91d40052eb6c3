//! Namespaces.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use linknet::{Netlink, Netns, NetnsError, NewMacvlan};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::{Space, Test};

crate::tests![
    a_path_without_anything_is_not_found,
    something_that_is_no_network_namespace_is_refused,
    what_runs_in_a_namespace_is_in_it_and_the_caller_is_not,
    a_command_spawned_in_a_namespace_stays_in_it,
    a_panic_inside_goes_on_outside,
    a_namespace_can_be_entered_from_one_that_cannot_be_returned_to,
    a_namespace_is_known_by_its_id,
    another_namespace_has_the_number_that_its_links_name,
    a_bound_namespace_outlives_its_handle_until_it_is_unbound,
    a_socket_keeps_its_namespace_and_sees_nothing_else,
];

fn a_path_without_anything_is_not_found() -> Test {
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

fn something_that_is_no_network_namespace_is_refused() -> Test {
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

fn what_runs_in_a_namespace_is_in_it_and_the_caller_is_not() -> Test {
    let here = Netns::current()?.id()?;
    let there = Netns::create()?;
    let inside = there.run(|| Netns::current().map(|netns| netns.id()))???;
    assert_eq!(inside, there.id()?);
    assert_ne!(inside, here);
    assert_eq!(Netns::current()?.id()?, here);
    Ok(())
}

fn a_command_spawned_in_a_namespace_stays_in_it() -> Test {
    let netns = Netns::create()?;
    let mut command = Command::new("readlink");
    let output = netns.run(|| command.arg("/proc/self/ns/net").output())??;
    assert_eq!(
        String::from_utf8(output.stdout)?.trim_end(),
        netns.id()?.to_string()
    );
    Ok(())
}

fn a_panic_inside_goes_on_outside() -> Test {
    let here = Netns::current()?.id()?;
    let netns = Netns::create()?;
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

fn a_namespace_can_be_entered_from_one_that_cannot_be_returned_to() -> Test {
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
    let netns = Netns::create()?;
    assert_eq!(
        netns.run(|| Netns::current().map(|netns| netns.id()))???,
        netns.id()?
    );
    assert_eq!(Netns::current()?.id()?, home.id()?);
    Ok(())
}

fn a_namespace_is_known_by_its_id() -> Test {
    let (one, other) = (Netns::create()?, Netns::create()?);
    assert_eq!(one.id()?, one.try_clone()?.id()?);
    assert_ne!(one.id()?, other.id()?);
    Ok(())
}

fn another_namespace_has_the_number_that_its_links_name() -> Test {
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

fn a_bound_namespace_outlives_its_handle_until_it_is_unbound() -> Test {
    let path = "/run/blue";
    let netns = Netns::create()?;
    netns.bind(path)?;
    let id = netns.id()?;
    drop(netns);
    assert_eq!(Netns::open(path)?.id()?, id);
    let again = Netns::create()?.bind(path).expect_err("the name is taken");
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    Netns::unbind(path)?;
    assert!(matches!(Netns::open(path), Err(NetnsError::NotFound(_))));
    Ok(())
}

fn a_socket_keeps_its_namespace_and_sees_nothing_else() -> Test {
    let netns = Netns::create()?;
    let netlink = Netlink::open_in(&netns)?;
    drop(netns);
    netlink.add_bridge("only-there")?;
    assert!(netlink.link("only-there")?.is_some());
    assert!(Netlink::open()?.link("only-there")?.is_none());
    Ok(())
}
