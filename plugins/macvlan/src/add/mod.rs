//! ADD: one message creates the interface in the container, and IPAM assigns its addresses. If a
//! step fails, nothing is left behind.

mod interface;
mod layer3;
mod refusal;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice;

use attachment::guard::NewGuard;
use attachment::{
    ContainerLock, DelegatedKeys, GUARDED_GROUP, KernelError, LeftOut, OwnerMark, Plan,
    keep_routes, source_routing, take_valid_lifetime,
};
use cni::delegate::{Ipam, StartedAdd};
use cni::{CniResult, Error, Interface, IpConfig, Request, Version, code};
use linknet::{Link, Netlink};

use crate::config::{self, Config};
use crate::netns::Namespaces;
use crate::parent::{self, Detached, Parent, SharedVlan};
use crate::{cleanup, guard, host_access, netns, refused_routes};
use interface::{AttachContext, Created};

pub(crate) use refusal::INSTALL_DRIVER;

/// An interface whose ADD has succeeded, but whose result has not been written yet. Until
/// [`finish`] is called, another ADD of the attachment replaces it.
///
/// [`finish`]: Unfinished::finish
pub(crate) struct Unfinished {
    inside: Netlink,
    index: u32,
    mark: OwnerMark,
    is_guarded: bool,
    _lock: ContainerLock,
}

/// How many times to try to mark an interface as finished. A refusal for want of memory passes.
const MARK_ATTEMPTS: usize = 5;

impl Unfinished {
    /// Whether the interface is gone: a DEL has removed everything.
    pub(crate) fn is_gone(&self) -> bool {
        is_gone(&self.inside, self.index)
    }

    /// Marks the interface as finished.
    pub(crate) fn finish(self) {
        let group = match self.is_guarded {
            true => GUARDED_GROUP,
            false => 0,
        };
        let mark = || {
            let alias = &self.mark.alias;
            self.inside.set_alias_and_group(self.index, alias, group)
        };
        let marked = (1..MARK_ATTEMPTS).fold(mark(), |marked, _| marked.or_else(|_| mark()));
        if let Err(error) = marked {
            log::warn!("cannot mark the interface as finished: {error}");
        }
    }
}

/// Attaches the container.
pub(crate) fn add(request: &Request) -> Result<(CniResult, Unfinished), Error> {
    let config = Config::read(request)?;
    config::warn_of_misspelt_keys(request);
    let ipam = Ipam::find(request)?;
    let version = request.config.version;
    let attachment = request.attachment()?;
    let namespaces = Namespaces::open(request, config.link_in_container)?;
    let lock = ContainerLock::acquire(&namespaces.container).or_kernel_error()?;
    let parent = parent::find(namespaces.outside(), &config)?;
    parent::ensure_suitable(parent.base(), &config)?;
    // It loads while the interface is created, and then gets its stdin.
    let started = ipam.as_ref().map(Ipam::start_add);
    let mark = OwnerMark::new(attachment);
    let context = AttachContext {
        config: &config,
        attachment,
        mark: &mark,
        ipam: ipam.as_ref(),
        parent: &parent,
        namespaces: &namespaces,
    };
    let attached = attach(&context, started);
    let (from_ipam, link) = attached.map_err(|error| drop_unused_vlan(&context, error))?;
    let result = complete(
        request,
        as_reported(from_ipam, version, &config, &link),
        &link,
    );
    let unfinished = Unfinished {
        index: link.index,
        inside: namespaces.inside,
        mark,
        _lock: lock,
        is_guarded: !config.guard.is_off(),
    };
    Ok((result, unfinished))
}

/// Creates the interface and configures it; returns IPAM's result and the link. On failure neither
/// the interface nor anything of IPAM's is left.
fn attach(
    context: &AttachContext<'_>,
    started: Option<StartedAdd<'_>>,
) -> Result<(CniResult, Link), Error> {
    let Created {
        link,
        parent,
        guard,
    } = context.create()?;
    let assigned = or_clean_up(context, &link, || match started {
        Some(started) => assign(context, &link, guard.as_ref(), started),
        None => Ok((CniResult::default(), link.clone())),
    });
    let obstacles = context.obstacles(&parent);
    let error = match assigned {
        Ok(assigned) => {
            for obstacle in obstacles {
                log::warn!("{obstacle}");
            }
            return Ok(assigned);
        }
        // The dhcp daemon looks at the parent too, and says the same of it.
        Err(error) => obstacles.iter().fold(error, |error, obstacle| {
            match error.details.contains(obstacle) {
                true => error,
                false => error.and_details(obstacle),
            }
        }),
    };
    Err(roll_back(context, &link, error))
}

/// Runs `step`. If it panics, removes everything that the ADD has made, and continues to panic.
fn or_clean_up<T>(context: &AttachContext<'_>, link: &Link, step: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        // Whatever made the first call panic may do so again, but must not keep the interface.
        let release = || context.ipam.map(|ipam| release(context, link, ipam));
        let _ = catch_unwind(AssertUnwindSafe(release));
        let _ = roll_back(context, link, Error::new(code::INTERNAL, "panic"));
        resume_unwind(panic)
    })
}

/// After `error`: removes the interface, and then the host's routes, for which it may have to wait.
/// If the interface is gone, a DEL has removed both, and the routes may be those of another ADD by
/// now.
fn roll_back(context: &AttachContext<'_>, link: &Link, error: Error) -> Error {
    if is_gone(&context.namespaces.inside, link.index) {
        return error;
    }
    let error = context.roll_back(link, error);
    host_access::roll_back(context.config, context.attachment, error)
}

/// Has IPAM release what this ADD may have got, unless the interface is gone: then a DEL has done
/// so, and what IPAM has for the attachment may be another ADD's by now.
///
/// As in DEL, the addresses are taken off before. If that fails, the interface is removed all the
/// same, right after.
fn release(context: &AttachContext<'_>, link: &Link, ipam: &Ipam<'_>) -> Result<(), Error> {
    let inside = &context.namespaces.inside;
    if is_gone(inside, link.index) {
        return Ok(());
    }
    let _ = cleanup::take_addresses_off(inside, slice::from_ref(link), None);
    ipam.del()
}

/// Whether there is no such interface any more. If the kernel does not say, there is.
fn is_gone(inside: &Netlink, index: u32) -> bool {
    matches!(inside.link_by_index(index), Ok(None))
}

/// Asks IPAM for addresses and configures them. Returns its result, and the link as it is then,
/// since IPAM may have set its MTU. On failure nothing of IPAM's is left.
fn assign(
    context: &AttachContext<'_>,
    link: &Link,
    guard: Option<&NewGuard>,
    started: StartedAdd<'_>,
) -> Result<(CniResult, Link), Error> {
    let &AttachContext { config, mark, .. } = context;
    let ipam = started.ipam();
    let inside = &context.namespaces.inside;
    let kept = keep_routes::find(inside, &config.keep_routes, link, mark)?;
    source_routing::ensure_table_is_free(inside, config.source_routing, link)?;
    // ADD's error says what went wrong; one of DEL's would hide it.
    let mut result = started.finish(|| drop(release(context, link, ipam)))?;
    let keys = DelegatedKeys::take(&mut result);
    let plan = Plan {
        kept,
        ..Plan::new(&result, link.index, config.source_routing)
    };
    let configured = configure(context, link, guard, ipam, (&plan, keys.as_ref()));
    let outcome = configured.and_then(|left_out| {
        let configured = inside.link_by_index(link.index).or_kernel_error()?;
        Ok((left_out, configured))
    });
    match outcome {
        Ok((left_out, configured)) => {
            report_left_out(&mut result, &left_out);
            Ok((result, configured.unwrap_or_else(|| link.clone())))
        }
        Err(error) => Err(match release(context, link, ipam) {
            Ok(()) => error,
            Err(second) => {
                error.and_details(&format!("releasing the address failed too: {second}"))
            }
        }),
    }
}

fn configure(
    context: &AttachContext<'_>,
    link: &Link,
    guard: Option<&NewGuard>,
    ipam: &Ipam<'_>,
    (plan, keys): (&Plan, Option<&DelegatedKeys>),
) -> Result<Vec<LeftOut>, Error> {
    if plan.addresses.is_empty() {
        let what = format!(
            "IPAM plugin {} assigned no address to {}",
            ipam.name(),
            link.name
        );
        return Err(Error::new(code::INVALID_NETWORK_CONFIG, what));
    }
    let &AttachContext {
        config,
        attachment,
        namespaces,
        ..
    } = context;
    if let Some(guard) = guard {
        guard::admit(&config.guard, guard, attachment, link, plan)?;
    }
    let left_out = layer3::configure(namespaces, link, plan, keys)?;
    refused_routes::add(&namespaces.inside, &config.refused_routes)?;
    host_access::attach(config, attachment, &namespaces.inside, link, plan)?;
    Ok(left_out)
}

/// Removes routes from the result that the kernel rejected: CHECK would look for them.
fn report_left_out(result: &mut CniResult, left_out: &[LeftOut]) {
    for route in left_out {
        log::warn!("{route}");
        result
            .routes
            .retain(|reported| reported.dst.trunc() != route.dst());
    }
}

/// After `error`: removes a VLAN that was created for this container alone.
fn drop_unused_vlan(context: &AttachContext<'_>, error: Error) -> Error {
    let Parent::Vlan(vlan) = context.parent else {
        return error;
    };
    let in_container = context.config.link_in_container;
    let container = in_container.then_some(&context.namespaces.container);
    let remove_vlan = || {
        let Some(link) = vlan.find(context.namespaces.outside())? else {
            return Ok(());
        };
        let netlink = container.map_or_else(Netlink::open, Netlink::open_in);
        let vlan = SharedVlan::find(netlink.or_kernel_error()?, container, link.index)?;
        vlan.map_or(Ok(()), |vlan| vlan.remove_if_unused(Detached::Yes))
    };
    match remove_vlan() {
        Ok(()) => error,
        Err(second) => error.and_details(&second.to_string()),
    }
}

/// IPAM's result as it is reported to the runtime: with the routes that were installed. Before
/// 1.1.0 a route has no table, so copies in the interface's own table would look like duplicates
/// and are left out.
fn as_reported(from_ipam: CniResult, version: Version, config: &Config, link: &Link) -> CniResult {
    if version < Version::V1_1_0 {
        return from_ipam;
    }
    source_routing::expand(from_ipam, config.source_routing, link.index)
}

/// The whole result: what plugins earlier in the chain made (spec §2, "Execution protocol": a
/// `prevResult` is passed on), then our interface with IPAM's addresses. The configuration's DNS
/// overrides IPAM's, and that overrides an earlier plugin's.
fn complete(request: &Request, reported: CniResult, link: &Link) -> CniResult {
    let mut result = request.config.prev_result.clone().unwrap_or_default();
    let our_index = result.interfaces.len();
    result.interfaces.push(Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: netns::path(request).display().to_string(),
        ..Interface::default()
    });
    result.ips.extend(reported.ips.into_iter().map(|mut ip| {
        take_valid_lifetime(&mut ip);
        IpConfig {
            interface: Some(our_index),
            ..ip
        }
    }));
    result.routes.extend(reported.routes);
    result.extra.extend(reported.extra);
    let dns = [request.config.dns.clone(), reported.dns];
    let dns = dns.into_iter().find(|dns| !dns.is_empty());
    result.dns = dns.unwrap_or(result.dns);
    result
}
