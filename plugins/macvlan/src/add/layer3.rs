//! Addresses, routes and rules on the container's interface, ready for use.

use std::thread::sleep;
use std::time::{Duration, Instant};

use attachment::{DelegatedKeys, KernelError, LeftOut, Plan, codes};
use cni::{Error, code};
use ipnet::IpNet;
use linknet::{Address, Dad, Link, Netns};

use crate::netns::Namespaces;

/// How long duplicate address detection of IPv6 may take: one second is usual (RFC 4862 §5.4). As
/// long may an address seem to be in use that an earlier container had, whose namespace the kernel
/// tears down in the background.
const DAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before its state is queried again.
const DAD_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The smallest MTU that IPv6 works with (RFC 8200 §5).
const IPV6_MIN_MTU: u32 = 1280;

/// Applies the plan, waits until the addresses can be used, and announces them to the neighbours if
/// that is wanted. Returns the routes of the DHCP server's that the kernel rejected: its mistake
/// must not cost the container its address. Without the dhcp plugin's `keys`, IPAM is another
/// plugin, whose routes are all from the configuration.
///
/// # Errors
/// 7 for what the kernel refuses, naming the address, route or rule; 113 if another host has an
/// IPv6 address, 11 if the kernel could not find that out.
pub(super) fn configure(
    namespaces: &Namespaces,
    link: &Link,
    plan: &Plan,
    keys: Option<&DelegatedKeys>,
) -> Result<Vec<LeftOut>, Error> {
    let has_ipv6 = plan.addresses.iter().any(|new| new.net.addr().is_ipv6());
    if has_ipv6 {
        enable_ipv6(&namespaces.container, link)?;
    }
    let is_from_server = |dst: &IpNet| keys.is_some_and(|keys| !keys.routes.contains(dst));
    let apply = || plan.apply(&namespaces.inside, link, is_from_server);
    let left_out = apply()?;
    if has_ipv6 {
        wait_for_dad(namespaces, link, plan, || apply().map(drop))?;
    }
    if keys.is_none_or(|keys| keys.announce)
        && let Err(error) = linknet::announce(&namespaces.container, &namespaces.inside, link.index)
    {
        // Neighbours that knew the address elsewhere learn of the change later.
        log::warn!("cannot announce {}: {error}", link.name);
    }
    Ok(left_out)
}

/// Containers are often created with IPv6 off; here an IPv6 address was asked for. As in the Go
/// plugin, loopback is included, and the address survives the link's being down for a moment.
fn enable_ipv6(container: &Netns, link: &Link) -> Result<(), Error> {
    let enable = || {
        for name in ["lo", &link.name] {
            let disabled = ["ipv6", "conf", name, "disable_ipv6"];
            // Below the smallest MTU there is no such setting.
            if linknet::sysctl::get(&disabled)? != "0" {
                linknet::sysctl::set(&disabled, "0")?;
            }
        }
        linknet::sysctl::set(&["ipv6", "conf", &link.name, "keep_addr_on_down"], "1")
    };
    let cannot_enter = |error| {
        let what = format!("cannot enter the container: {error}");
        Error::new(codes::KERNEL, what)
    };
    match container.run(enable).map_err(cannot_enter)? {
        Err(error) if error.is_absent() => {
            let why = why_no_ipv6(link.mtu);
            let what = format!("{} cannot have an IPv6 address: {why}", link.name);
            Err(Error::new(code::INVALID_NETWORK_CONFIG, what).details(error.to_string()))
        }
        outcome => outcome.or_rejected(),
    }
}

/// Why an interface with this MTU has no settings for IPv6.
fn why_no_ipv6(mtu: u32) -> String {
    match mtu {
        0..IPV6_MIN_MTU => format!("its MTU is {mtu}, but IPv6 needs {IPV6_MIN_MTU}"),
        _ => "this kernel has no IPv6".to_owned(),
    }
}

/// Waits until every IPv6 address of the plan can be used. One that is in use is removed, and tried
/// again by `apply`. On a link without a carrier there is no neighbour to ask: the kernel does so
/// when there is one.
fn wait_for_dad(
    namespaces: &Namespaces,
    link: &Link,
    plan: &Plan,
    apply: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let inside = &namespaces.inside;
    let deadline = Instant::now() + DAD_TIMEOUT;
    let is_planned = |address: &Address| plan.addresses.iter().any(|new| new.net == address.net);
    let mut refused = None;
    loop {
        let mut addresses = inside.addresses(link.index).or_rejected()?;
        addresses.retain(is_planned);
        let with = |dad| addresses.iter().find(move |address| address.dad == dad);
        if let Some(taken) = with(Dad::Failed) {
            refused = Some(taken.net);
            // The kernel asks again for an address that is new.
            let removed = inside.delete_address(link.index, taken.net);
            removed.or_rejected()?;
            apply()?;
            continue;
        }
        let Some(tentative) = with(Dad::Tentative) else {
            return Ok(());
        };
        let current = inside.link_by_index(link.index).or_rejected()?;
        if current.is_some_and(|link| !link.carrier) {
            log::warn!(
                "{} has no carrier, so it is not known yet whether {} is free",
                link.name,
                tentative.net
            );
            return Ok(());
        }
        if let Some(net) = refused.filter(|_| Instant::now() > deadline) {
            let what = format!(
                "address {net} of {} is in use by another host on the link",
                link.name
            );
            return Err(Error::new(codes::ADDRESS_TAKEN, what));
        }
        if Instant::now() > deadline {
            let what = format!(
                "cannot find out within {} s whether {} is free on {}",
                DAD_TIMEOUT.as_secs(),
                tentative.net,
                link.name
            );
            return Err(Error::new(code::TRY_AGAIN_LATER, what));
        }
        sleep(DAD_POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_that_is_too_small_for_ipv6_is_named() {
        assert!(why_no_ipv6(1279).contains("1279"));
        assert!(why_no_ipv6(1280).contains("no IPv6"));
    }
}
