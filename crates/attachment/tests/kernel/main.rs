//! What only a kernel can tell, each test in namespaces of its own.

mod guard;
mod host_access;
mod keep_routes;
mod plan;
mod source_routing;

use std::process::ExitCode;

use lab::{Lan, Node, Result, Suite, Test};
use linknet::{Link, NewMacvlan};

fn main() -> ExitCode {
    let tests: Vec<Test> = [
        host_access::TESTS,
        guard::TESTS,
        plan::TESTS,
        keep_routes::TESTS,
        source_routing::TESTS,
    ]
    .concat();
    Suite::new().tests(&tests).run()
}

/// A container with a macvlan `eth0` on the LAN, and that link, which is up.
fn container(lan: &Lan, name: &str) -> Result<(Node, Link)> {
    let container = lan.container(name)?;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new("eth0", lan.host.link(Lan::MASTER)?.index)
    };
    let host = lan.host.netlink()?;
    let link = host.add_macvlan(&new, container.netns(), &container.netlink()?)?;
    Ok((container, link))
}
