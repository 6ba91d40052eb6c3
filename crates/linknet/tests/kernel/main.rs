//! Tests against the real kernel, in new network namespaces inside a user namespace. They need no
//! privileges where unprivileged user namespaces are allowed.
//!
//! There is no `#[test]` here, because only a process with a single thread can enter a user
//! namespace. `main` does so before the first test's thread starts.

mod addresses;
mod first_process;
mod links;
mod netns;
mod nft;
mod routes;
mod sockets;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use linknet::{Link, Netlink, Netns, OperState};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getgid, getuid};

type Test = Result<(), Failed>;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    match given.as_slice() {
        [netns::GUEST] => return exit_code(netns::guest()),
        [first_process::GUEST, name] => return exit_code(first_process::guest(name)),
        _ => {}
    }
    let arguments = Arguments::from_args();
    if let Err(error) = enter_world() {
        eprintln!("cannot create a user namespace for the tests: {error}");
        eprintln!("(see kernel.unprivileged_userns_clone, user.max_user_namespaces, and AppArmor)");
        return ExitCode::FAILURE;
    }
    let tests = [
        netns::tests(),
        first_process::tests(),
        nft::tests(),
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

fn exit_code(outcome: Test) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed:?}");
            ExitCode::FAILURE
        }
    }
}

/// The namespace that this process was started in.
static HOST: OnceLock<Netns> = OnceLock::new();

/// Moves this process into new user, network and mount namespaces, as root with an empty `/run`.
fn enter_world() -> std::io::Result<()> {
    let host = Netns::current().map_err(std::io::Error::other)?;
    HOST.get_or_init(|| host);
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

/// A new namespace and a socket in it.
struct Space {
    netns: Netns,
    netlink: Netlink,
    /// The namespaces of the peers of [`Space::plug`]'s links.
    peers: RefCell<Vec<Space>>,
}

impl Space {
    fn new() -> Result<Space, Failed> {
        let netns = new_netns()?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Space {
            netns,
            netlink,
            peers: RefCell::default(),
        })
    }

    /// The link with this name, which must exist.
    fn link(&self, name: &str) -> Result<Link, Failed> {
        Ok(self
            .netlink
            .link(name)?
            .ok_or_else(|| format!("no link {name}"))?)
    }

    /// Creates a veth whose peer is in another space.
    fn add_veth(&self, name: &str, peer: &str, other: &Space) -> Test {
        let pid = std::process::id();
        let fd = other.netns.as_fd().as_raw_fd();
        self.ip(&format!(
            "link add {name} type veth peer name {peer} netns /proc/{pid}/fd/{fd}"
        ))
    }

    /// A link that is up and has a carrier. No other link receives what it sends.
    fn plug(&self, name: &str) -> Result<Link, Failed> {
        let peer = Space::new()?;
        self.add_veth(name, "peer", &peer)?;
        peer.netlink.set_up(peer.link("peer")?.index)?;
        self.netlink.set_up(self.link(name)?.index)?;
        self.peers.borrow_mut().push(peer);
        // The kernel updates the state of a link some time after it is set up.
        until("the link's state to be up", || {
            Ok(Some(self.link(name)?).filter(|link| link.state == OperState::Up))
        })
    }

    /// Runs `ip` of iproute2 in this namespace, for what this library cannot do.
    fn ip(&self, arguments: &(impl AsRef<[u8]> + ?Sized)) -> Test {
        let arguments = arguments.as_ref();
        let mut command = Command::new("ip");
        command.args(
            arguments
                .split(|&octet| octet == b' ')
                .map(OsStr::from_bytes),
        );
        let output = self
            .netns
            .run(|| command.output())?
            .map_err(|error| format!("ip (of iproute2): {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "ip {}: {}",
                String::from_utf8_lossy(arguments),
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }
}

/// A new network namespace, with nothing in it but a loopback device that is down.
fn new_netns() -> Result<Netns, Failed> {
    // On a thread of its own, so that the caller stays in its namespace.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok::<_, Failed>(Netns::current()?)
        });
        thread.join().expect("no panic")
    })
}

/// Two namespaces with a veth between them: `left` in one and `right` in the other, both up.
fn cable() -> Result<(Space, Space), Failed> {
    let (left, right) = (Space::new()?, Space::new()?);
    left.add_veth("left", "right", &right)?;
    left.netlink.set_up(left.link("left")?.index)?;
    right.netlink.set_up(right.link("right")?.index)?;
    // Until both ends are up the kernel still changes them by itself.
    until("the cable to be up", || {
        let ends = [left.link("left")?, right.link("right")?];
        let are_up = ends.iter().all(|end| end.state == OperState::Up);
        Ok(are_up.then_some(()))
    })?;
    Ok((left, right))
}

/// Repeats `condition` until it returns an answer; fails after a minute,
/// which is much more than a busy machine needs.
fn until<T>(
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>, Failed>,
) -> Result<T, Failed> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match condition()? {
            Some(answer) => return Ok(answer),
            None if Instant::now() > deadline => {
                return Err(format!("gave up waiting for {what}").into());
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}
