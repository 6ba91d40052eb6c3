//! ADD: one message makes the interface in the container, IPAM gives it its addresses, all or nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, Request, code};
use linknet::{Link, Netlink, Netns, NewMacvlan};

use crate::config::Config;
use crate::{configure, container, parent};

/// How long to wait for another macvlan of the same MAC to go: its netns is torn down in the background.
const DYING: Duration = Duration::from_secs(2);

/// Attaches the container.
pub(crate) fn add(request: &Request) -> Result<CniResult, Error> {
    let config = Config::read(request)?;
    let ipam = Ipam::find(request)?;
    if ipam.is_none() && request.config.version.requires_ip() {
        return Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "a result of cniVersion {} needs an address, and no ipam is configured",
                request.config.version
            ),
        )
        .details("without ipam, cniVersion must be 0.3.0 or later"));
    }
    let netns = container::open(request)?;
    let inside = Netlink::open_in(&netns).map_err(asking)?;
    let outside =
        if config.link_in_container { Netlink::open_in(&netns) } else { Netlink::open() }.map_err(asking)?;
    let parent = parent::find(&outside, config.master.as_ref())?;
    configure::check_mtu(&config, &parent)?;

    let link = create(&outside, &inside, &netns, &config, &parent, &request.ifname)?;
    let attached = match &ipam {
        None => Ok(CniResult::default()),
        Some(ipam) => assign(&inside, &netns, &link, ipam),
    };
    match attached {
        Ok(result) => Ok(complete(result, request, &link)),
        Err(error) => Err(undo(&inside, &link, error)),
    }
}

/// Makes the interface in the container: its name, MAC, MTU and mode, up, with one message.
fn create(
    outside: &Netlink,
    inside: &Netlink,
    netns: &Netns,
    config: &Config,
    parent: &Link,
    ifname: &str,
) -> Result<Link, Error> {
    let new = NewMacvlan {
        mode: config.mode,
        mac: config.mac,
        mtu: config.mtu,
        nopromisc: config.nopromisc,
        sources: &config.sources,
        bc_queue_len: config.bc_queue_len,
        bc_cutoff: config.bc_cutoff,
        up: true,
        ..NewMacvlan::new(ifname, parent.index)
    };
    let deadline = Instant::now() + DYING;
    loop {
        match outside.add_macvlan(&new, netns, inside) {
            Ok(link) => return with_mac(inside, link, config),
            Err(error) if error.is_address_in_use() && Instant::now() < deadline => sleep(DYING / 40),
            Err(error) => return Err(configure::diagnose(&error, config, parent, ifname)),
        }
    }
}

/// In mode passthru the kernel gives the interface its parent's MAC whatever was asked for; setting it afterwards
/// sets the parent's too, and the kernel undoes that when the interface goes.
fn with_mac(inside: &Netlink, link: Link, config: &Config) -> Result<Link, Error> {
    match config.mac {
        Some(mac) if link.mac != Some(mac) => match inside.set_mac(link.index, mac) {
            Ok(()) => Ok(Link { mac: Some(mac), ..link }),
            Err(error) => Err(undo(inside, &link, asking(error))),
        },
        _ => Ok(link),
    }
}

/// Asks IPAM for addresses, and configures them. On failure nothing of IPAM's is left.
fn assign(inside: &Netlink, netns: &Netns, link: &Link, ipam: &Ipam<'_>) -> Result<CniResult, Error> {
    let result = ipam.add()?;
    let configured = if result.ips.is_empty() {
        Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!("IPAM plugin {} gave no address for {}", ipam.name(), link.name),
        ))
    } else {
        configure::configure(inside, netns, link, &result)
    };
    match configured {
        Ok(()) => Ok(result),
        Err(error) => Err(match ipam.del() {
            Ok(()) => error,
            Err(second) => also(error, &format!("giving the address back failed too: {second}")),
        }),
    }
}

/// The result of the whole: IPAM's, on our interface.
fn complete(mut result: CniResult, request: &Request, link: &Link) -> CniResult {
    result.interfaces = vec![Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: container::path(request).display().to_string(),
        ..Interface::default()
    }];
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    if !request.config.dns.is_empty() {
        result.dns = request.config.dns.clone();
    }
    result
}

/// Takes the interface away again after `error`, which is what the caller needs to hear.
fn undo(inside: &Netlink, link: &Link, error: Error) -> Error {
    match inside.delete_link(link.index) {
        Ok(()) => error,
        Err(second) if second.is_absent() => error,
        Err(second) => also(error, &format!("removing {} again failed too: {second}", link.name)),
    }
}

fn also(mut error: Error, what: &str) -> Error {
    if !error.details.is_empty() {
        error.details.push_str("; ");
    }
    error.details.push_str(what);
    error
}

fn asking(error: linknet::Error) -> Error {
    Error::new(code::IO_FAILURE, error.to_string())
}
