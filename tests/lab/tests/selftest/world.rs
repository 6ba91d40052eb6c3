//! What [`lab::world::enter`] promises.

use std::{fs, path::Path, process::Command, time::Duration};

use lab::{Result, Test, World, test, until};

pub(crate) const TESTS: &[Test] = &[
    test!(the_caller_is_root_in_a_world_with_nothing_in_it),
    test!(run_and_the_caches_of_libcni_are_private),
    test!(an_orphan_is_reaped),
];

fn the_caller_is_root_in_a_world_with_nothing_in_it(world: &World) -> Result {
    assert!(nix::unistd::geteuid().is_root());
    let links = linknet::Netlink::open()?.links()?;
    assert!(
        links.len() == 1 && links[0].name == "lo" && links[0].up,
        "{links:?}"
    );
    // pid 1 is the lab's init, the test its only child so far.
    assert_eq!(std::process::id(), 2);
    assert!(world.dir().is_dir());
    Ok(())
}

fn run_and_the_caches_of_libcni_are_private(world: &World) -> Result {
    let in_run: Vec<_> = fs::read_dir("/run")?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    assert_eq!(in_run.len(), 3, "netns, cni and lab, not {in_run:?}");
    fs::write(world.dir().join("file"), "")?;
    if Path::new("/var/lib").is_dir() {
        fs::create_dir_all("/var/lib/cni/results")?;
    }
    Ok(())
}

fn an_orphan_is_reaped(_: &World) -> Result {
    // The shell ends at once and leaves a child behind, which ends a moment later; as a zombie it
    // would keep its pid.
    let shell = Command::new("sh")
        .args(["-c", "sleep 0.05 >/dev/null & echo $!"])
        .output()?;
    let orphan = String::from_utf8(shell.stdout)?.trim().parse()?;
    let orphan = nix::unistd::Pid::from_raw(orphan);
    until("the orphan is gone", Duration::from_secs(5), || {
        nix::sys::signal::kill(orphan, None).is_err()
    })
}
