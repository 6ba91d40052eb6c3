//! Network namespaces: the container's, the plugin's own, and those of other containers that can be
//! found.

use std::fs;
use std::path::{Path, PathBuf};

use attachment::{KernelError, cannot_open_netns, codes, is_macvlan};
use cni::{Error, Request, code};
use linknet::{Link, Netlink, Netns, NetnsError, NetnsId};

/// The container's namespace and the parent's, with an rtnetlink socket in each.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// The container's namespace.
    pub(crate) container: Netns,
    /// A socket in it.
    pub(crate) inside: Netlink,
    /// A socket in the plugin's own namespace, unless the parent is in the container.
    host: Option<Netlink>,
}

impl Namespaces {
    /// Opens the namespaces of an attachment.
    ///
    /// # Errors
    /// As for [`open`]; 111 if a socket cannot be opened.
    pub(crate) fn open(request: &Request, link_in_container: bool) -> Result<Namespaces, Error> {
        let container = open(request)?;
        let inside = Netlink::open_in(&container).or_kernel_error()?;
        let host = match link_in_container {
            true => None,
            false => Some(Netlink::open().or_kernel_error()?),
        };
        Ok(Namespaces {
            container,
            inside,
            host,
        })
    }

    /// The socket in the parent's namespace.
    pub(crate) fn outside(&self) -> &Netlink {
        self.host.as_ref().unwrap_or(&self.inside)
    }
}

/// Opens the container's namespace, and makes sure that it is not the plugin's own.
///
/// # Errors
/// 3 when there is none at that path, 4 when something else is there, or the host's own namespace.
fn open(request: &Request) -> Result<Netns, Error> {
    let path = path(request);
    let netns = Netns::open(path).map_err(|error| cannot_open(&error))?;
    if !request.netns_override && is_own(&netns).map_err(|error| cannot_open(&error))? {
        let what = format!(
            "CNI_NETNS={} is the plugin's own network namespace, not a container's",
            path.display()
        );
        return Err(Error::new(code::INVALID_ENVIRONMENT, what)
            .details("if this is intended, set CNI_NETNS_OVERRIDE=1"));
    }
    Ok(netns)
}

/// Like opening the container's namespace for ADD, but for DEL: a namespace that no longer exists
/// is `None`, not an error. So is one of which only the file is left that it was mounted on, and
/// the plugin's own, in which ADD has made nothing.
///
/// # Errors
/// When there is a namespace that cannot be opened.
pub(crate) fn open_if_exists(request: &Request) -> Result<Option<Netns>, Error> {
    let Some(path) = &request.netns else {
        return Ok(None);
    };
    match Netns::open(path) {
        Ok(netns) => {
            let is_own = is_own(&netns).map_err(|error| cannot_open(&error))?;
            Ok((request.netns_override || !is_own).then_some(netns))
        }
        Err(NetnsError::NotFound(_) | NetnsError::NotNetns(_)) => Ok(None),
        Err(error) => Err(cannot_open(&error)),
    }
}

/// CNI_NETNS; empty where the verb does without.
pub(crate) fn path(request: &Request) -> &Path {
    request.netns.as_deref().unwrap_or(Path::new(""))
}

/// Where runtimes and iproute2 give namespaces their names. On most systems the second is the
/// first.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The namespaces that have a name in the file system, except the plugin's own: each with its path,
/// and an error if it cannot be looked into.
fn named() -> Vec<(PathBuf, Result<Netns, NetnsError>)> {
    let own = Netns::current().ok().and_then(|own| own.id().ok());
    let mut seen: Vec<NetnsId> = own.into_iter().collect();
    let mut found = Vec::new();
    let folders = NAMED.iter().filter_map(|folder| fs::read_dir(folder).ok());
    for entry in folders.flatten().flatten() {
        let path = entry.path();
        match Netns::open(&path).and_then(|netns| Ok((identify(&netns)?, netns))) {
            Ok((id, netns)) if !seen.contains(&id) => {
                seen.push(id);
                found.push((path, Ok(netns)));
            }
            // Seen already, or not a namespace, or no longer one.
            Ok(_) | Err(NetnsError::NotFound(_) | NetnsError::NotNetns(_)) => {}
            Err(error) => found.push((path, Err(error))),
        }
    }
    found
}

/// Looks into the namespaces that have a name, for GC. Returns what `look_into` finds there, and the
/// first failure. The other namespaces are still searched.
pub(crate) fn search_named<T>(
    look_into: impl Fn(&Path, &Netns) -> linknet::Result<Vec<T>>,
) -> (Vec<T>, Result<(), Error>) {
    let (mut found, mut outcome) = (Vec::new(), Ok(()));
    for (path, netns) in named() {
        let searched = netns
            .map_err(|error| error.to_string())
            .and_then(|netns| look_into(&path, &netns).map_err(|error| error.to_string()));
        match searched {
            Ok(some) => found.extend(some),
            Err(why) => {
                let what = format!("cannot search {} for interfaces", path.display());
                outcome = outcome.and(Err(Error::new(codes::KERNEL, what).details(why)));
            }
        }
    }
    (found, outcome)
}

/// The macvlans on the link with this index, which `netlink` sees: those in its namespace and, if
/// `in_named`, in the namespaces that have a name, with the path of those.
pub(crate) fn macvlans_on(
    netlink: &Netlink,
    parent: u32,
    in_named: bool,
) -> Result<Vec<(Option<PathBuf>, Link)>, Error> {
    let is_on_parent = |link: &Link| is_macvlan(link) && link.parent == Some(parent);
    let mut beside = netlink.links().or_kernel_error()?;
    beside.retain(|link| is_on_parent(link) && link.parent_netnsid.is_none());
    let mut found: Vec<_> = beside.into_iter().map(|link| (None, link)).collect();
    for (path, netns) in if in_named { named() } else { Vec::new() } {
        let Ok(netns) = netns else { continue };
        let links = Netlink::open_in(&netns).and_then(|netlink| netlink.links());
        let mut links = links.unwrap_or_default();
        links.retain(|link| is_on_parent(link) && link.parent_netnsid.is_some());
        found.extend(links.into_iter().map(|link| (Some(path.clone()), link)));
    }
    Ok(found)
}

/// The namespace that the plugin was called in: the host's.
///
/// # Errors
/// If `/proc` is not there.
pub(crate) fn own() -> Result<Netns, Error> {
    Netns::current().map_err(|error| Error::new(codes::KERNEL, error.to_string()))
}

fn is_own(netns: &Netns) -> Result<bool, NetnsError> {
    Ok(identify(&Netns::current()?)? == identify(netns)?)
}

fn identify(netns: &Netns) -> Result<NetnsId, NetnsError> {
    netns.id().map_err(|error| NetnsError::Io {
        path: PathBuf::from("(open)"),
        error,
    })
}

fn cannot_open(error: &NetnsError) -> Error {
    cannot_open_netns(error, codes::KERNEL)
}

#[cfg(test)]
mod tests {
    use cni::{Env, KnownArgs};

    use super::*;

    fn request(netns: &str, is_override: &str) -> Request {
        let env: Env = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS_OVERRIDE", is_override),
        ]
        .into_iter()
        .collect();
        let config = r#"{ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan" }"#;
        Request::parse(&env, config.as_bytes(), KnownArgs::Any).unwrap()
    }

    #[test]
    fn the_hosts_own_namespace_is_no_containers_unless_the_caller_insists() {
        const OWN: &str = "/proc/self/ns/net";
        let refused = open(&request(OWN, "")).unwrap_err();
        assert_eq!(refused.code, code::INVALID_ENVIRONMENT);
        assert!(open(&request(OWN, "1")).is_ok());
        let missing = open(&request("/run/netns/there-is-none", "")).unwrap_err();
        assert_eq!(missing.code, code::UNKNOWN_CONTAINER);
    }
}
