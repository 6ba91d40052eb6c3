//! Network namespaces: the container's, as CNI_NETNS names it, and those of other containers that
//! can be found.

use std::fs;
use std::path::{Path, PathBuf};

use cni::{Error, Request, code};
use linknet::{Link, Netlink, Netns, NetnsError, NetnsId};

use crate::codes;
use crate::make::asking;
use crate::mark::is_macvlan;

/// Opens the container's netns, and makes sure that it is not the plugin's own.
///
/// # Errors
/// 3 when there is none at that path, 4 when something else is there, or the host's own netns.
pub(crate) fn open(request: &Request) -> Result<Netns, Error> {
    let path = path(request);
    let netns = Netns::open(path).map_err(|error| not_open(&error))?;
    if !request.netns_override && is_own(&netns).map_err(|error| not_open(&error))? {
        return Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!(
                "CNI_NETNS={} is the plugin's own network namespace, not a container's",
                path.display()
            ),
        )
        .details("set CNI_NETNS_OVERRIDE=1 if that is really meant"));
    }
    Ok(netns)
}

/// The same for DEL, to which a container that is gone already is fine: `None` then. It is gone too
/// when only the file is left that its netns was mounted on; and in the plugin's own netns ADD has
/// made nothing.
///
/// # Errors
/// When there is a netns that cannot be opened.
pub(crate) fn open_if_there(request: &Request) -> Result<Option<Netns>, Error> {
    let Some(path) = &request.netns else {
        return Ok(None);
    };
    match Netns::open(path) {
        Ok(netns) => {
            let own =
                !request.netns_override && is_own(&netns).map_err(|error| not_open(&error))?;
            Ok((!own).then_some(netns))
        }
        Err(NetnsError::NotFound(_) | NetnsError::NotNetns(_)) => Ok(None),
        Err(error) => Err(not_open(&error)),
    }
}

/// CNI_NETNS; empty where the verb does without.
pub(crate) fn path(request: &Request) -> &Path {
    request.netns.as_deref().unwrap_or(Path::new(""))
}

/// Where runtimes and iproute2 give namespaces their names. On most systems the second is the
/// first.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The namespaces that have a name in the file system, the plugin's own left out.
pub(crate) fn named() -> Vec<(PathBuf, Netns)> {
    let mut seen: Vec<NetnsId> = Netns::current()
        .ok()
        .and_then(|own| own.id().ok())
        .into_iter()
        .collect();
    let mut found = Vec::new();
    for entry in NAMED
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
    {
        // What cannot be opened is no namespace (any more), and nobody's concern here.
        let Ok(netns) = Netns::open(entry.path()) else {
            continue;
        };
        let Ok(id) = netns.id() else { continue };
        if !seen.contains(&id) {
            seen.push(id);
            found.push((entry.path(), netns));
        }
    }
    found
}

/// The macvlans on the link of this number, which `netlink` sees: beside it and, if `elsewhere`, in
/// the namespaces that have a name, with the path of those.
pub(crate) fn macvlans_on(
    netlink: &Netlink,
    parent: u32,
    elsewhere: bool,
) -> Result<Vec<(Option<PathBuf>, Link)>, Error> {
    let on_parent = |link: &Link| is_macvlan(link) && link.parent == Some(parent);
    let beside = netlink.links().map_err(|error| asking(&error))?;
    let beside = beside
        .into_iter()
        .filter(|link| on_parent(link) && link.parent_netnsid.is_none());
    let mut found: Vec<_> = beside.map(|link| (None, link)).collect();
    for (path, netns) in if elsewhere { named() } else { Vec::new() } {
        let links = Netlink::open_in(&netns)
            .and_then(|netlink| netlink.links())
            .unwrap_or_default();
        let there = links
            .into_iter()
            .filter(|link| on_parent(link) && link.parent_netnsid.is_some());
        found.extend(there.map(|link| (Some(path.clone()), link)));
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
    let io = |error| NetnsError::Io {
        path: PathBuf::from("(own)"),
        error,
    };
    let own = Netns::current()?;
    Ok(own.id().map_err(io)? == netns.id().map_err(io)?)
}

fn not_open(error: &NetnsError) -> Error {
    let code = match error {
        NetnsError::NotFound(_) => code::UNKNOWN_CONTAINER,
        NetnsError::NotNetns(_) => code::INVALID_ENVIRONMENT,
        NetnsError::Io { .. } => codes::KERNEL,
    };
    Error::new(code, format!("CNI_NETNS: {error}"))
}
