//! `hostAccess`: the host reaches its own containers through a macvlan of its own on their parent
//! ([`attachment::host_access`]).
//!
//! The result does not list that macvlan: it does not belong to the attachment, and the runtime
//! must not expect it to disappear with the container. Its routes bear the attachment's tag, so DEL
//! finds those of a container that is gone, whatever its address was.

mod gc;

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use attachment::host_access::{
    AttachError, AttachmentTag, HostAccess, HostAccessKey, Reachable, Refusal, return_routes,
};
use attachment::{HostLock, KernelError, Plan, SharedKeys, codes, differs, kernel_code};
use cni::{Attachment, Error, Request};
use ipnet::IpNet;
use linknet::{Link, Netlink};

use crate::config::{self, Config};
use crate::netns;

pub(crate) use gc::gc;

/// How long to wait for another attachment that has the address: its DEL has given the address back,
/// and is about to remove the route.
const OTHER_ATTACHMENT_WAIT: Duration = Duration::from_secs(5);

/// The pause before the address is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// ADD: makes host and container reach each other at every address of the plan.
///
/// # Errors
/// 114 if the host must not be led to one of them, and 7 if the kernel refuses. [`roll_back`] removes the routes that were set by then.
pub(crate) fn attach(
    config: &Config,
    attachment: &Attachment,
    inside: &Netlink,
    link: &Link,
    plan: &Plan,
) -> Result<(), Error> {
    if config.host_access.is_off() {
        return Ok(());
    }
    let prefixes: Vec<IpNet> = plan.addresses.iter().map(|new| new.net).collect();
    let addresses: Vec<IpAddr> = prefixes.iter().map(IpNet::addr).collect();
    let no_parent = || {
        let what = format!("hostAccess: {} has no parent", link.name);
        Error::new(codes::KERNEL, what)
    };
    let parent = link.parent.ok_or_else(no_parent)?;
    let tag = AttachmentTag::new(attachment);
    let (host, reachable) = lead(parent, tag, &addresses, &config.host_access)?;
    // A killed ADD of this attachment may have left others.
    let is_stale = |other: AttachmentTag, to: IpAddr| other == tag && !addresses.contains(&to);
    let mut records = host.records().or_rejected()?.into_iter();
    if records.any(|record| is_stale(record.tag, record.to)) {
        host.detach(is_stale).or_rejected()?;
    }
    set_return_routes(config, inside, link, &prefixes, &reachable).or_rejected()?;
    warn_of_limits(&reachable);
    Ok(())
}

/// Sets the host's routes, and returns them with the lock that they were set under.
fn lead(
    parent: u32,
    tag: AttachmentTag,
    addresses: &[IpAddr],
    key: &HostAccessKey,
) -> Result<(HostAccess, Vec<Reachable>), Error> {
    let deadline = Instant::now() + OTHER_ATTACHMENT_WAIT;
    loop {
        let host = lock()?;
        match host.attach(parent, tag, addresses, key) {
            Ok(reachable) => return Ok((host, reachable)),
            Err(AttachError::Kernel(error)) => return Err(error).or_rejected(),
            Err(AttachError::Refused(refusal))
                if refusal.is_temporary() && Instant::now() < deadline => {}
            Err(AttachError::Refused(refusal)) => return Err(refused(&refusal)),
        }
        drop(host);
        sleep(RETRY_INTERVAL);
    }
}

fn refused(refusal: &Refusal) -> Error {
    let what = format!("hostAccess: {refusal}");
    Error::new(codes::HOST_ROUTE_REFUSED, what).details(refusal.advice())
}

/// Warns where the host cannot reach the container yet, or the container cannot reach the host
/// first.
fn warn_of_limits(reachable: &[Reachable]) {
    for Reachable { to, .. } in reachable.iter().filter(|it| it.from.is_none()) {
        let version = if to.is_ipv4() { "IPv4" } else { "IPv6" };
        log::warn!(
            "hostAccess: the host has no {version} address to speak from, so it and the container \
             do not reach each other at {to}; give the host one, then have the runtime call GC or \
             recreate the container"
        );
    }
    if reachable.iter().any(|it| it.to.is_ipv4()) && !host_answers_arp_for_other_links() {
        log::warn!(
            "hostAccess: net.ipv4.conf.all.arp_ignore keeps this host from answering ARP \
             requests of its containers: they can answer the host, but not contact it first"
        );
    }
}

/// Whether the host answers on one link for an address that it has on another, as it does by
/// default. kube-proxy in mode IPVS with `strictARP` turns that off.
fn host_answers_arp_for_other_links() -> bool {
    // With all other values it does (`arp_ignore` of the kernel's networking/ip-sysctl).
    let ignored = linknet::sysctl::get(&["ipv4", "conf", "all", "arp_ignore"]);
    !ignored.is_ok_and(|value| ["1", "2", "8"].contains(&value.as_str()))
}

/// Sets the routes that the container needs to answer the host, where `prefixes` are on its link.
fn set_return_routes(
    config: &Config,
    inside: &Netlink,
    link: &Link,
    prefixes: &[IpNet],
    reachable: &[Reachable],
) -> linknet::Result<()> {
    let routes = return_routes(reachable, link.index, prefixes, config.source_routing);
    routes
        .iter()
        .try_for_each(|route| inside.replace_route(route))
}

/// After an ADD that failed with `error`: removes what [`attach`] has set.
pub(crate) fn roll_back(config: &Config, attachment: &Attachment, error: Error) -> Error {
    if config.host_access.is_off() {
        return error;
    }
    match remove(attachment) {
        Ok(()) => error,
        Err(second) => {
            let what = format!("removing the host's route to the container failed too: {second}");
            error.and_details(&what)
        }
    }
}

/// CHECK: the host must reach each of the container's addresses.
///
/// # Errors
/// 110 with the first difference.
pub(crate) fn check(
    config: &Config,
    attachment: &Attachment,
    outside: &Netlink,
    link: &Link,
    addresses: &[IpNet],
) -> Result<(), Error> {
    if config.host_access.is_off() {
        return Ok(());
    }
    let tag = AttachmentTag::new(attachment);
    let key = &config.host_access;
    let difference = attachment::host_access::difference(outside, link, tag, addresses, key);
    match difference.or_kernel_error()? {
        None => Ok(()),
        Some(how) => Err(differs(&link.name, format_args!("hostAccess: {how}"))),
    }
}

/// DEL: removes the host's routes to the container, even if its interface is already gone. A
/// configuration without any key of this plugin says nothing of `hostAccess`: some callers keep none.
///
/// # Errors
/// 111 if the kernel refuses.
pub(crate) fn detach(request: &Request) -> Result<(), Error> {
    // ADD refuses a value of another type, and so has set nothing.
    let is_off = SharedKeys::read(request).host_access.is_off();
    if is_off && (config::has_own_keys(request) || !gc::has_shim(&outside()?)?) {
        return Ok(());
    }
    remove(request.attachment()?)
}

fn remove(attachment: &Attachment) -> Result<(), Error> {
    let tag = AttachmentTag::new(attachment);
    let removed = lock()?.detach_nowait(|other, _| other == tag);
    removed.map(drop).map_err(|error| failed(&error))
}

fn outside() -> Result<Netlink, Error> {
    Netlink::open().map_err(|error| failed(&error))
}

/// The host's macvlans and routes in the plugin's own namespace, which is the parents'.
fn lock() -> Result<HostAccess, Error> {
    let netns = netns::own()?;
    HostLock::acquire()
        .and_then(|lock| HostAccess::new(&netns, lock))
        .map_err(|error| failed(&error))
}

fn failed(error: &linknet::Error) -> Error {
    Error::new(kernel_code(error), format!("hostAccess: cannot {error}"))
}
