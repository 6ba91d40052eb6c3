//! What [`Lan`] and [`lab::Node`] promise.

use std::{net::IpAddr, time::Duration};

use lab::{Lan, Result, Test, World, anyhow::Context, deadline, test};
use linknet::{Mac, NewAddress, NewMacvlan};

pub(crate) const TESTS: &[Test] = &[
    test!(host_and_servers_are_joined_by_a_cable),
    test!(two_hosts_and_the_servers_are_joined_by_a_switch),
    test!(a_macvlan_container_reaches_the_servers),
    test!(an_ipv6_address_is_there_on_request),
    test!(a_ping_that_nobody_answers_says_so),
    test!(a_removed_node_leaves_no_name),
];

const SOON: Duration = Duration::from_secs(2);

fn host_and_servers_are_joined_by_a_cable(_: &World) -> Result {
    let lan = Lan::new()?;
    assert!(lan.host.link(Lan::MASTER)?.carrier && lan.lan.link(Lan::SERVER_LINK)?.carrier);
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    lan.host.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn two_hosts_and_the_servers_are_joined_by_a_switch(_: &World) -> Result {
    let (lan, second) = Lan::with_two_hosts()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    second.add_address(Lan::MASTER, "10.99.0.3/24".parse()?)?;
    lan.host.ping(Lan::ADDRESS.into(), SOON)?;
    second.ping(Lan::ADDRESS.into(), SOON)?;
    lan.host.ping("10.99.0.3".parse()?, SOON)?;
    Ok(())
}

fn a_macvlan_container_reaches_the_servers(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let inside = container.netlink()?;
    let new = NewMacvlan {
        mac: Some(Mac::local([0x02, 0, 0, 0, 0, 1])),
        ..NewMacvlan::new("eth0", lan.host.link(Lan::MASTER)?.index)
    };
    let link = lan
        .host
        .netlink()?
        .add_macvlan(&new, container.netns(), &inside)?;
    inside.set_up(link.index)?;
    inside.add_address(
        link.index,
        &NewAddress::new("10.99.0.50/24".parse::<ipnet::IpNet>()?),
    )?;
    assert_eq!(container.ipv4("eth0")?, ["10.99.0.50/24".parse()?]);
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn an_ipv6_address_is_there_on_request(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    lan.host.add_address(Lan::MASTER, "fd99::2/64".parse()?)?;
    lan.host.ping(Lan::ADDRESS6.into(), SOON)?;
    Ok(())
}

fn a_ping_that_nobody_answers_says_so(_: &World) -> Result {
    let lan = Lan::new()?;
    let nowhere: IpAddr = "10.99.0.77".parse()?;
    let moment = Duration::from_millis(50);
    let error = lan
        .lan
        .ping(nowhere, moment)
        .err()
        .context("an answer from nowhere")?;
    let expected = format!(
        "ping 10.99.0.77 from lan: no answer within {:?}",
        deadline(moment)
    );
    assert!(format!("{error:#}").starts_with(&expected), "{error:#}");
    assert!(!lan.lan.is_answered(nowhere, moment)?);
    let error = lan
        .host
        .ping(nowhere, moment)
        .err()
        .context("an answer without a route")?;
    assert!(
        format!("{error:#}").contains("Network is unreachable"),
        "{error:#}"
    );
    Ok(())
}

fn a_removed_node_leaves_no_name(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let path = container.path();
    assert!(path.exists() && lan.container("c1").is_err());
    container.remove()?;
    assert!(!path.exists());
    lan.container("c1")?;
    Ok(())
}
