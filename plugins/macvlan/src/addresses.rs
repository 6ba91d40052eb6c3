//! Addresses and routes of a CNI result, on the container's interface.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{CniResult, Error, code};
use linknet::{Address, Dad, Link, Netlink, Netns, NewAddress};

use crate::{codes, routes};

/// How long IPv6 may take to find out that nobody else has the address: one second is usual (RFC
/// 4862 §5.4).
const DAD: Duration = Duration::from_secs(10);

/// The smallest MTU that IPv6 works with (RFC 8200 §5).
const IPV6_MTU: u32 = 1280;

/// Sets addresses and routes, waits until the addresses can be used, and tells the neighbours if
/// that is wanted.
///
/// # Errors
/// 7 for what the kernel refuses, naming the address or route; 113 if somebody else has an IPv6
/// address, 11 if that could not be found out.
pub(crate) fn configure(
    inside: &Netlink,
    netns: &Netns,
    link: &Link,
    result: &CniResult,
    announce: bool,
) -> Result<(), Error> {
    let has_v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
    if has_v6 {
        enable_ipv6(netns, link)?;
    }
    for ip in &result.ips {
        add_address(inside, link, ip)?;
    }
    for route in routes::plan(link.index, result) {
        routes::add(inside, &route)?;
    }
    if has_v6 {
        wait_for_dad(inside, link, result)?;
    }
    if announce && let Err(error) = linknet::announce(netns, link.index) {
        // Without it neighbours that knew the address elsewhere learn of it later, that is all.
        eprintln!("macvlan: {} could not be announced: {error}", link.name);
    }
    Ok(())
}

/// What the kernel would not do with what IPAM gave.
pub(crate) fn refused(error: &linknet::Error) -> Error {
    let code = if error.is_denied() {
        codes::KERNEL
    } else {
        code::INVALID_NETWORK_CONFIG
    };
    Error::new(code, format!("the kernel refused to {error}"))
}

/// Gives the interface an address, for as long as its lease lasts: nobody uses it any longer, even
/// if the daemon that renews it has died. IPAM may list the same one twice.
fn add_address(inside: &Netlink, link: &Link, ip: &cni::IpConfig) -> Result<(), Error> {
    let lifetime = ip
        .valid_lifetime
        .map(|seconds| Duration::from_secs(seconds.into()));
    let new = NewAddress {
        valid: lifetime,
        preferred: lifetime,
        ..NewAddress::new(ip.address)
    };
    let refusal = match inside.add_address(link.index, &new) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    // IPv6 has an address once, whatever its prefix.
    if refusal.is_exists()
        && addresses(inside, link)?
            .iter()
            .any(|there| there.net == ip.address)
    {
        return Ok(());
    }
    Err(refused(&refusal))
}

/// Containers are often made with IPv6 off; an address of that family was asked for. As with the Go
/// plugin this goes for loopback too, and the address outlives the link's being down for a moment.
fn enable_ipv6(netns: &Netns, link: &Link) -> Result<(), Error> {
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
    match netns.run(enable) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is_absent() => {
            let why = match link.mtu {
                mtu if mtu < IPV6_MTU => format!("its MTU is {mtu}, and IPv6 needs {IPV6_MTU}"),
                _ => "this kernel is without IPv6".to_owned(),
            };
            let what = format!("{} cannot have an IPv6 address: {why}", link.name);
            Err(Error::new(code::INVALID_NETWORK_CONFIG, what).details(error.to_string()))
        }
        Ok(Err(error)) => Err(refused(&error)),
        Err(error) => Err(Error::new(
            codes::KERNEL,
            format!("entering the container failed: {error}"),
        )),
    }
}

/// Waits until every IPv6 address that was set can be used. On a link without a carrier nobody can
/// be asked: it is done when there is one.
fn wait_for_dad(inside: &Netlink, link: &Link, result: &CniResult) -> Result<(), Error> {
    let deadline = Instant::now() + DAD;
    loop {
        let mut there = addresses(inside, link)?;
        there.retain(|address| result.ips.iter().any(|ip| ip.address == address.net));
        if let Some(taken) = there.iter().find(|address| address.dad == Dad::Failed) {
            return Err(Error::new(
                codes::ADDRESS_TAKEN,
                format!(
                    "address {} of {} is in use by somebody else on the link",
                    taken.net, link.name
                ),
            ));
        }
        let Some(waiting) = there.iter().find(|address| address.dad == Dad::Tentative) else {
            return Ok(());
        };
        match inside
            .link_by_index(link.index)
            .map_err(|error| refused(&error))?
        {
            Some(now) if !now.carrier => {
                eprintln!(
                    "macvlan: {} has no carrier: whether {} is free is not known yet",
                    link.name, waiting.net
                );
                return Ok(());
            }
            _ => {}
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                code::TRY_AGAIN_LATER,
                format!(
                    "whether {} is free on {} could not be found out in {DAD:?}",
                    waiting.net, link.name
                ),
            ));
        }
        sleep(Duration::from_millis(10));
    }
}

fn addresses(inside: &Netlink, link: &Link) -> Result<Vec<Address>, Error> {
    inside
        .addresses(link.index)
        .map_err(|error| refused(&error))
}
