//! What only a kernel can tell: each test runs against the real one, in fresh network namespaces
//! inside a user namespace, as any user.
//!
//! There is no `#[test]` here: a user namespace can only be entered by a process of one thread, so
//! `main` does that before the first test thread starts.

mod addresses;
mod links;
mod netns;
mod routes;
mod sockets;

use std::cell::RefCell;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use linknet::{Link, Netlink, Netns, OperState};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getgid, getuid};

type Test = Result<(), Failed>;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(netns::GUEST) {
        return match netns::guest() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("{failed:?}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    if let Err(error) = enter_world() {
        eprintln!("cannot make a namespace of our own for the tests: {error}");
        eprintln!(
            "(is kernel.unprivileged_userns_clone or user.max_user_namespaces 0, or AppArmor in the way?)"
        );
        return ExitCode::FAILURE;
    }
    let tests = [
        netns::tests(),
        links::tests(),
        addresses::tests(),
        routes::tests(),
        sockets::tests(),
    ]
    .concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, test))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Becomes root of user, network and mount namespaces of its own, with an empty `/run`.
fn enter_world() -> std::io::Result<()> {
    let (uid, gid): (Uid, Gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    Ok(())
}

/// The test functions of a module, with their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<(&'static str, fn() -> $crate::Test)> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), $name as fn() -> $crate::Test)),*]
        }
    };
}

/// A fresh namespace and a socket in it.
struct Space {
    netns: Netns,
    netlink: Netlink,
    /// The other ends of links that need one.
    ends: RefCell<Vec<Space>>,
}

impl Space {
    fn new() -> Result<Space, Failed> {
        let netns = Netns::create()?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Space {
            netns,
            netlink,
            ends: RefCell::default(),
        })
    }

    /// The link of that name, which must be there.
    fn link(&self, name: &str) -> Result<Link, Failed> {
        Ok(self
            .netlink
            .link(name)?
            .ok_or_else(|| format!("no link {name}"))?)
    }

    /// A link that is up and carries, plugged into nothing.
    fn plug(&self, name: &str) -> Result<Link, Failed> {
        let end = Space::new()?;
        self.netlink.add_veth(name, "end", Some(&end.netns))?;
        end.netlink.set_up(end.link("end")?.index)?;
        self.netlink.set_up(self.link(name)?.index)?;
        self.ends.borrow_mut().push(end);
        // The kernel says that it is up in its own time, and until then the link changes by itself.
        until("the link to carry", || {
            Ok(Some(self.link(name)?).filter(|link| link.state == OperState::Up))
        })
    }

    /// Runs `ip` here, for what this library does not do.
    fn ip(&self, arguments: &str) -> Test {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        let output = self
            .netns
            .run(|| command.output())?
            .map_err(|error| format!("ip (of iproute2): {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "ip {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }
}

/// A cable between `left` in one namespace and `right` in another, both up.
fn cable() -> Result<(Space, Space), Failed> {
    let (left, right) = (Space::new()?, Space::new()?);
    left.netlink.add_veth("left", "right", Some(&right.netns))?;
    left.netlink.set_up(left.link("left")?.index)?;
    right.netlink.set_up(right.link("right")?.index)?;
    until("the cable to carry", || {
        Ok(left.link("left")?.carrier.then_some(()))
    })?;
    Ok((left, right))
}

/// Asks again until there is an answer.
fn until<T>(
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>, Failed>,
) -> Result<T, Failed> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match condition()? {
            Some(answer) => return Ok(answer),
            None if Instant::now() > deadline => {
                return Err(format!("waited in vain for {what}").into());
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
