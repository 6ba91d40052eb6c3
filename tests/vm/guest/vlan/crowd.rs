//! Many containers at once on a VLAN that none of them has made.

use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, anyhow, ensure};
use lab::serde_json::json;
use lab::{Attachment, Node, Result, Test, World, test};

use super::{ID, NAME, Trunk};

pub(super) const TESTS: &[Test] = &[
    test!(many_adds_and_then_many_dels_leave_nothing).within(TEST_TIMEOUT),
    test!(many_concurrent_adds_and_dels_leave_nothing).within(TEST_TIMEOUT),
    test!(containers_that_vanish_before_their_dels_leave_nothing).within(TEST_TIMEOUT),
];

const CROWD: usize = 64;

/// For an emulated machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

fn many_adds_and_then_many_dels_leave_nothing(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let containers = containers(&trunk, CROWD)?;
    all_at_once(&trunk, &containers, &["ADD"])?;
    trunk.ensure_host_has(&[NAME])?;
    let vlan = trunk.host().link(NAME)?.index;
    for container in &containers {
        let link = container.link("eth0")?;
        ensure!(
            link.parent == Some(vlan) && link.up,
            "{}: {link:?}",
            container.name()
        );
    }
    all_at_once(&trunk, &containers, &["DEL"])?;
    ensure_nothing_left(&trunk, &containers)
}

fn many_concurrent_adds_and_dels_leave_nothing(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let containers = containers(&trunk, CROWD)?;
    all_at_once(&trunk, &containers, &["ADD", "DEL"])?;
    ensure_nothing_left(&trunk, &containers)
}

fn containers_that_vanish_before_their_dels_leave_nothing(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let containers = containers(&trunk, CROWD / 4)?;
    all_at_once(&trunk, &containers, &["ADD"])?;
    let attachments: Vec<Attachment> = containers.iter().map(Attachment::new).collect();
    for container in containers {
        container.remove()?;
    }
    each_at_once(&attachments, |attachment| {
        trunk.network(json!({ "vlan": ID })).del(attachment)
    })?;
    trunk.ensure_host_has(&[])
}

pub(super) fn containers(trunk: &Trunk, count: usize) -> Result<Vec<Node>> {
    (0..count)
        .map(|number| trunk.lan.container(&format!("c{number}")))
        .collect()
}

/// These verbs one after the other in every container, all containers at once; half of them by the
/// one spelling, half by the other.
fn all_at_once(trunk: &Trunk, containers: &[Node], verbs: &[&str]) -> Result {
    let numbered: Vec<(usize, &Node)> = containers.iter().enumerate().collect();
    let started = Instant::now();
    each_at_once(&numbered, |(number, container)| {
        let keys = if number % 2 == 0 {
            json!({ "vlan": ID })
        } else {
            json!({ "master": NAME })
        };
        let network = trunk.network(keys);
        let attachment = Attachment::new(container);
        for verb in verbs {
            let outcome = network
                .prepare(verb, 0, &attachment, None)?
                .run(trunk.host())?;
            outcome
                .success()
                .with_context(|| format!("{verb} of {}", container.name()))?;
        }
        Ok(())
    })?;
    eprintln!(
        "{} times {verbs:?} in {:.1?}",
        containers.len(),
        started.elapsed()
    );
    Ok(())
}

pub(super) fn each_at_once<T: Sync>(all: &[T], f: impl Fn(&T) -> Result + Sync) -> Result {
    thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| f(one))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

pub(super) fn ensure_nothing_left(trunk: &Trunk, containers: &[Node]) -> Result {
    trunk.ensure_host_has(&[])?;
    for container in containers {
        ensure!(
            container.links()?.len() == 1,
            "{}: {:?}",
            container.name(),
            container.links()?
        );
    }
    Ok(())
}
