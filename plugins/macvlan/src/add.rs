//! ADD: one message makes the interface in the container, IPAM gives it its addresses, all or
//! nothing.

use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, Request, code};
use linknet::{Link, Netlink};

use crate::config::Config;
use crate::diagnosis::{self, also};
use crate::make::{Made, Workshop, asking};
use crate::mark::Mark;
use crate::parent::{self, Leaving, Parent, SharedVlan};
use crate::{addresses, container, host_access, keep_routes, source_routing};

/// An interface whose ADD the runtime has not heard the end of.
pub(crate) struct Unfinished {
    inside: Netlink,
    index: u32,
    mark: Mark,
}

impl Unfinished {
    /// From now on the interface is not to be replaced by another ADD.
    pub(crate) fn finish(self) {
        if let Err(error) = self
            .inside
            .set_alias_and_group(self.index, &self.mark.alias, 0)
        {
            eprintln!("macvlan: the interface could not be marked as finished: {error}");
        }
    }
}

/// Attaches the container.
pub(crate) fn add(request: &Request) -> Result<(CniResult, Unfinished), Error> {
    let config = Config::read(request)?;
    let ipam = Ipam::find(request)?;
    if ipam.is_none() && request.config.version.requires_ip() {
        return Err(no_address_possible(request));
    }
    let netns = container::open(request)?;
    let inside = Netlink::open_in(&netns).map_err(|error| asking(&error))?;
    let elsewhere = match config.link_in_container {
        true => None,
        false => Some(Netlink::open().map_err(|error| asking(&error))?),
    };
    let outside = elsewhere.as_ref().unwrap_or(&inside);
    let parent = parent::find(outside, &config)?;
    diagnosis::fits(parent.device(), &config)?;
    let mark = Mark::of(request);
    let workshop = Workshop {
        config: &config,
        ipam: ipam.as_ref(),
        mark: &mark,
        ifname: &request.ifname,
        parent: &parent,
        outside,
        netns: &netns,
        inside: &inside,
    };
    match attach(&workshop, request) {
        Ok((result, link)) => {
            let index = link.index;
            let result = source_routing::told(result, request.config.version, &config, &link);
            Ok((
                complete(result, request, &link),
                Unfinished {
                    inside,
                    index,
                    mark,
                },
            ))
        }
        Err(error) => Err(leave(&workshop, error)),
    }
}

/// Makes the interface and has it configured; on failure neither it nor anything of IPAM's is left.
fn attach(workshop: &Workshop<'_>, request: &Request) -> Result<(CniResult, Link), Error> {
    let Made { link, parent } = workshop.make()?;
    let assigned = match workshop.ipam {
        Some(ipam) => assign(workshop, &link, ipam, request),
        None => Ok((CniResult::default(), link.clone())),
    };
    let troubles = workshop.troubles(&parent);
    match assigned {
        Ok(assigned) => {
            for trouble in troubles {
                eprintln!("macvlan: {trouble}");
            }
            Ok(assigned)
        }
        Err(error) => {
            let error = troubles
                .iter()
                .fold(error, |error, trouble| also(error, trouble));
            let error = host_access::undo(request, workshop.config, error);
            Err(workshop.unmake(&link, error))
        }
    }
}

/// After `error`: a VLAN that was made for this container alone goes too.
fn leave(workshop: &Workshop<'_>, error: Error) -> Error {
    let Parent::Vlan(vlan) = workshop.parent else {
        return error;
    };
    let gone = || {
        let inside = workshop.config.link_in_container.then_some(workshop.netns);
        let Some(link) = vlan.find(workshop.outside)? else {
            return Ok(());
        };
        let netlink = inside
            .map_or_else(Netlink::open, Netlink::open_in)
            .map_err(|error| asking(&error))?;
        SharedVlan::find(netlink, inside, link.index)?
            .map_or(Ok(()), |vlan| vlan.let_go(Leaving::Done))
    };
    match gone() {
        Ok(()) => error,
        Err(second) => also(error, &second.to_string()),
    }
}

/// Asks IPAM for addresses, and configures them; returns the link as it is then, since IPAM may
/// have set its MTU. On failure nothing of IPAM's is left.
fn assign(
    workshop: &Workshop<'_>,
    link: &Link,
    ipam: &Ipam<'_>,
    request: &Request,
) -> Result<(CniResult, Link), Error> {
    let &Workshop {
        config,
        inside,
        netns,
        mark,
        ..
    } = workshop;
    let kept = keep_routes::find(inside, &config.keep_routes, link, mark)?;
    source_routing::ensure_free(inside, config, link)?;
    let result = ipam.add()?;
    let made = source_routing::routed(result.clone(), config, link);
    let configured = if result.ips.is_empty() {
        Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "IPAM plugin {} gave no address for {}",
                ipam.name(),
                link.name
            ),
        ))
    } else {
        keep_routes::pin(inside, &kept)
            .and_then(|()| addresses::configure(inside, netns, link, &made, config.announce))
            .and_then(|()| source_routing::add_rules(inside, config, link, &made))
            .and_then(|()| host_access::join(request, workshop, link, &result))
            .and_then(|()| {
                inside
                    .link_by_index(link.index)
                    .map_err(|error| asking(&error))
            })
    };
    match configured {
        Ok(now) => Ok((result, now.unwrap_or_else(|| link.clone()))),
        Err(error) => Err(match ipam.del() {
            Ok(()) => error,
            Err(second) => also(
                error,
                &format!("giving the address back failed too: {second}"),
            ),
        }),
    }
}

/// The result of the whole: what plugins earlier in the chain made (spec §2, "Execution protocol":
/// a `prevResult` is passed on), then our interface with IPAM's addresses. The configuration's DNS
/// goes before IPAM's, and that before an earlier plugin's.
fn complete(assigned: CniResult, request: &Request, link: &Link) -> CniResult {
    let mut result = request.config.prev_result.clone().unwrap_or_default();
    let ours = result.interfaces.len();
    result.interfaces.push(Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: container::path(request).display().to_string(),
        ..Interface::default()
    });
    result
        .ips
        .extend(assigned.ips.into_iter().map(|ip| cni::IpConfig {
            interface: Some(ours),
            ..ip
        }));
    result.routes.extend(assigned.routes);
    result.extra.extend(assigned.extra);
    let dns = [request.config.dns.clone(), assigned.dns]
        .into_iter()
        .find(|dns| !dns.is_empty());
    result.dns = dns.unwrap_or(result.dns);
    result
}

fn no_address_possible(request: &Request) -> Error {
    let version = request.config.version;
    Error::new(
        code::INVALID_NETWORK_CONFIG,
        format!("a result of cniVersion {version} needs an address, and no ipam is configured"),
    )
    .details("without ipam, cniVersion must be 0.3.0 or later")
}
