//! Namespaces for one program: user (unless root), network, mount and pid, entered without any
//! helper program.
//!
//! [`enter`] runs the program three times over, each stage named by its `argv[0]`:
//!
//! ```text
//! door         unshares the namespaces, maps its user to root, waits
//! └─ lab-init  pid 1: mounts, lo up, reaps orphans; its end is the end of everything in the world
//!    └─ lab-inside  the program proper: here `enter` returns
//! ```
//!
//! Each stage dies with the one above it (parent-death signal, pid namespace), so neither a crash
//! nor a kill -9 of the outermost process leaves anything behind.

use std::{
    convert::Infallible,
    env, fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, exit},
};

use anyhow::{Context, anyhow, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::{set_name, set_pdeathsig},
        signal::Signal,
        wait::{WaitStatus, wait},
    },
    unistd::{Pid, getegid, geteuid},
};

use crate::Result;

/// What every stage is executed from; works wherever the file itself can no longer be reached by
/// its path.
pub(crate) const SELF: &str = "/proc/self/exe";

/// `argv[0]` of the later stages. Not an environment variable: those are inherited by everything
/// that is run inside, and another program that calls [`enter`] there must get a world of its own.
const INIT: &str = "lab-init";
const INSIDE: &str = "lab-inside";

/// Directories that get a tmpfs of their own, if they exist: runtimes and plugins keep their state
/// in the first, libcni its cache in the second.
const PRIVATE_DIRS: [&str; 2] = ["/run", "/var/lib"];

/// The caller's own world, as it is inside.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
}

impl World {
    /// A directory on the world's own tmpfs, for sockets, configuration and logs. It ends with the
    /// world.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Puts the calling program into a world of its own. To be called first thing in `main`, while
/// there is one thread.
///
/// The program starts again inside, with the same arguments; only there the call returns. Outside,
/// the process waits for it and exits with its status. Standard streams and environment stay the
/// same.
///
/// Inside, the caller is root over the network, mount and pid namespaces. An ordinary user becomes
/// so through a user namespace. Root does without one: real servers give up root for users of their
/// own and set their groups, and container runtimes mount what a user namespace may not, so that as
/// root they run as they do in production; only where root may not unshare either (a container's
/// root) is a user namespace tried.
///
/// # Errors
/// When the system does not allow namespaces: the error says which setting forbids it and what to
/// do.
pub fn enter() -> Result<World> {
    match stage() {
        Stage::Door => match door()? {},
        Stage::Init => match init()? {},
        Stage::Inside => Ok(World { dir: world_dir() }),
    }
}

/// True in the processes that [`enter`] starts, false in the one that first calls it.
pub(crate) fn entering() -> bool {
    !matches!(stage(), Stage::Door)
}

/// True when `LAB_KEEP` asks for the worlds of failed tests to stay.
pub(crate) fn keep() -> bool {
    env::var_os("LAB_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

enum Stage {
    Door,
    Init,
    Inside,
}

fn stage() -> Stage {
    match env::args_os().next() {
        Some(name) if name == INIT => Stage::Init,
        Some(name) if name == INSIDE => Stage::Inside,
        _ => Stage::Door,
    }
}

fn next_stage(name: &str) -> Command {
    let mut command = Command::new(SELF);
    command.arg0(name).args(env::args_os().skip(1));
    command
}

fn world_dir() -> PathBuf {
    PathBuf::from("/run/lab")
}

/// Makes the namespaces, starts [`init`] in them and waits. The caller itself stays in its old pid
/// namespace (only children enter a new one) and in its old root.
fn door() -> Result<Infallible> {
    let user_namespace = unshare_world()?;
    // A kept world must outlive the run that made it; the stages further in depend on this one
    // still.
    if keep() {
        eprintln!("to enter this world: {}", enter_command(user_namespace));
    } else {
        die_with_parent()?;
    }
    let mut init = next_stage(INIT)
        .spawn()
        .context("start the world's pid 1")?;
    let status = init.wait().context("wait for the world's pid 1")?;
    exit(exit_code(status))
}

/// PID 1: furnishes the world, starts the program in it and reaps until that has ended.
fn init() -> Result<Infallible> {
    die_with_parent()?;
    // It reaps orphans, and plugins look at its name to know whether anybody does.
    set_name(c"lab-init").context("name the world's pid 1")?;
    furnish()?;
    let program = next_stage(INSIDE)
        .spawn()
        .context("start the program inside its world")?;
    let program = Pid::from_raw(program.id().try_into().expect("a pid fits in pid_t"));
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => exit(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => bail!("wait for the program: {errno}"),
        }
    }
}

fn die_with_parent() -> Result<()> {
    // The signal is reset by the change of credentials that a new user namespace is: to be set
    // after it.
    set_pdeathsig(Signal::SIGKILL).context("set the parent-death signal")
}

/// Returns whether a user namespace was needed.
fn unshare_world() -> Result<bool> {
    let (uid, gid) = (geteuid(), getegid()); // inside, unknown until they are mapped
    let world = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if uid.is_root() && unshare(world).is_ok() {
        return Ok(false);
    }
    unshare(world | CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| forbidden("make a user namespace", errno.into()))?;
    // A process without CAP_SETGID outside must give up setgroups before it may map its group
    // (user_namespaces(7)).
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), content)
            .map_err(|error| forbidden(&format!("write /proc/self/{file}"), error))?;
    }
    Ok(true)
}

/// Everything that has to be done from inside the new namespaces, before the program starts.
fn furnish() -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| forbidden("make mounts private", errno.into()))?;
    // Where parts of /proc are masked (in most containers), a user namespace may not mount a whole
    // one. The old one serves as well, it only shows other pids.
    match mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => bail!("mount /proc: {errno}"),
    }
    for dir in PRIVATE_DIRS.iter().filter(|dir| Path::new(dir).is_dir()) {
        mount(
            Some("lab"),
            *dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .map_err(|errno| forbidden(&format!("mount a tmpfs on {dir}"), errno.into()))?;
    }
    for dir in ["/run/netns", "/run/cni"]
        .map(Path::new)
        .into_iter()
        .chain([world_dir().as_path()])
    {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    crate::lan::loopback_up()
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Through the door, which is in all of the world's namespaces but that of its pids.
fn enter_command(user_namespace: bool) -> String {
    let door = std::process::id();
    let user = if user_namespace {
        " --user --preserve-credentials"
    } else {
        ""
    };
    format!(
        "nsenter --target {door}{user} --net --mount --pid=/proc/{door}/ns/pid_for_children -- sh   # end it with: kill {door}"
    )
}

/// The error for a system that does not let its users (or this root) have namespaces.
fn forbidden(what: &str, error: io::Error) -> anyhow::Error {
    let hint = remedies(|path| fs::read_to_string(path).ok()).join("\n");
    anyhow!("this system does not allow namespaces: could not {what}: {error}\n{hint}")
}

/// What to do about it, most likely first. `read` returns a sysctl file's content, or nothing where
/// there is no such file.
fn remedies(read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const SWITCHES: [(&str, &str, &str); 3] = [
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "user.max_user_namespaces=15000",
        ),
    ];
    let mut remedies: Vec<String> = SWITCHES
        .into_iter()
        .filter(|(path, forbids, _)| read(path).is_some_and(|value| value.trim() == *forbids))
        .map(|(path, forbids, allow)| {
            format!("{path} is {forbids}: run as root, or allow it with `sudo sysctl -w {allow}`")
        })
        .collect();
    if remedies.is_empty() {
        remedies.push(
            "run as root; in a container also let it unshare (`--privileged`, or a seccomp profile that allows it)"
                .to_owned(),
        );
    }
    remedies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_that_forbids_user_namespaces_is_named_with_its_remedy() {
        let ubuntu = |path: &str| match path {
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns" => Some("1\n".to_owned()),
            "/proc/sys/user/max_user_namespaces" => Some("15000\n".to_owned()),
            _ => None,
        };
        assert_eq!(
            remedies(ubuntu),
            [
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1: run as root, or allow it with \
              `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
            ]
        );
    }

    #[test]
    fn without_a_guilty_sysctl_there_is_still_a_way_on() {
        let remedies = remedies(|_| None);
        assert!(remedies[0].starts_with("run as root"), "{remedies:?}");
    }
}
