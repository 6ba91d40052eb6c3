//! Which device of the host a macvlan sits on: `master` in all its forms, so that one configuration
//! fits every node.

mod selector;
mod vlan;

use cni::{Error, code};
use ipnet::IpNet;
use linknet::{Address, Link, Lock, Mac, Netlink, Route, Shared};
use wildmatch::WildMatch;

pub(crate) use selector::Selector;
pub(crate) use vlan::{DRIVER as VLAN_DRIVER, Leaving, SharedVlan, Vlan};

use crate::codes;
use crate::config::Config;
use crate::mark::is_macvlan;

/// What a macvlan is to sit on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parent {
    /// A device that is there.
    Device(Link),
    /// A VLAN, which is made if it does not exist; or one of ours, which may be removed any moment.
    Vlan(Vlan),
}

/// A parent that stays for as long as one has this.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) link: Link,
    _lock: Option<Lock>,
}

impl Parent {
    /// The device that is plugged into the LAN: of a VLAN, the one that carries it.
    pub(crate) fn device(&self) -> &Link {
        match self {
            Parent::Device(link) | Parent::Vlan(Vlan { base: link, .. }) => link,
        }
    }

    /// The link itself, made if need be, and kept from being removed until there is a macvlan on
    /// it.
    ///
    /// # Errors
    /// As for [`Vlan::ensure`]; 111 when the lock cannot be had.
    pub(crate) fn hold(&self, netlink: &Netlink) -> Result<Held, Error> {
        match self {
            Parent::Device(link) => Ok(Held {
                link: link.clone(),
                _lock: None,
            }),
            Parent::Vlan(vlan) => {
                let lock = Lock::take().map_err(asking)?;
                Ok(Held {
                    link: vlan.ensure(netlink, &lock)?,
                    _lock: Some(lock),
                })
            }
        }
    }
}

/// Finds the parent among the links that `netlink` sees: `master`, or the device of the default
/// route, and the VLAN on it if one is wanted. A macvlan of the host's stands for the device below
/// it, on which the kernel puts a new one.
///
/// # Errors
/// 7 when there is none (with the names that exist) or more than one (with the candidates).
pub(crate) fn find(netlink: &Netlink, config: &Config) -> Result<Parent, Error> {
    let found = match &config.master {
        Some(selector) => selected(netlink, selector, config.vlan.is_none())?,
        None => Parent::Device(default_route(netlink)?),
    };
    let Parent::Device(link) = found else {
        return Ok(found);
    };
    let link = real(netlink, link)?;
    if let Some(id) = config.vlan {
        return Ok(Parent::Vlan(Vlan { base: link, id }));
    }
    match Vlan::of(netlink, &link)?.filter(|_| Shared::Vlan.is(&link)) {
        Some(ours) => Ok(Parent::Vlan(ours)),
        None => Ok(Parent::Device(link)),
    }
}

/// What `selector` means. `spelled`: a name may be that of a VLAN which does not exist yet.
fn selected(netlink: &Netlink, selector: &Selector, spelled: bool) -> Result<Parent, Error> {
    let found = match selector {
        Selector::Name(name) => named(netlink, name, spelled)?,
        Selector::FirstOf(names) => first_of(netlink, names, spelled)?,
        Selector::InSubnet(subnet) => {
            let links = in_subnet(&links(netlink)?, &addresses(netlink)?, *subnet);
            only(&selector.to_string(), links)?.map(Parent::Device)
        }
    };
    found.ok_or_else(|| {
        let why = match selector {
            Selector::Name(_) => "does not exist",
            Selector::FirstOf(_) => "does not exist, not one of them",
            Selector::InSubnet(_) => "does not exist: no device has an address in there",
        };
        missing(netlink, &format!("{selector} {why}"))
    })
}

/// Whether the configuration may have meant `parent` when the macvlan was made. That it would
/// choose another one now (a better one of the list has come, the default route has moved) takes
/// nothing from the one that was chosen.
pub(crate) fn admits(netlink: &Netlink, config: &Config, parent: &Link) -> Result<bool, Error> {
    let vlan = Vlan::of(netlink, parent)?;
    let Some(id) = config.vlan else {
        return is_meant(netlink, config.master.as_ref(), parent, vlan.as_ref());
    };
    match vlan {
        Some(vlan) if vlan.id == id => is_meant(netlink, config.master.as_ref(), &vlan.base, None),
        _ => Ok(false),
    }
}

/// Whether `selector` may have meant `parent`, which is `vlan` if it is one.
fn is_meant(
    netlink: &Netlink,
    selector: Option<&Selector>,
    parent: &Link,
    vlan: Option<&Vlan>,
) -> Result<bool, Error> {
    let names = match selector {
        None => return Ok(true),
        Some(Selector::Name(name)) => std::slice::from_ref(name),
        Some(Selector::FirstOf(names)) => names,
        Some(Selector::InSubnet(subnet)) => {
            let candidates = in_subnet(&links(netlink)?, &addresses(netlink)?, *subnet);
            return Ok(candidates.iter().any(|link| link.index == parent.index));
        }
    };
    let is_spelled = |name: &String| {
        let spelled = Vlan::spelled(name).zip(vlan);
        spelled.is_some_and(|((base, id), vlan)| vlan.id == id && is_called(&vlan.base, base))
    };
    if names
        .iter()
        .any(|name| is_called(parent, name) || is_spelled(name))
    {
        return Ok(true);
    }
    // On a macvlan the kernel puts a new one beside it, on its own parent.
    let all = links(netlink)?;
    Ok(all.iter().any(|link| {
        link.macvlan.is_some()
            && link.parent == Some(parent.index)
            && names.iter().any(|name| is_called(link, name))
    }))
}

/// What `name` means: a link exactly, or by another of its names, or by a pattern; or a VLAN that a
/// link could carry.
fn named(netlink: &Netlink, name: &str, spelled: bool) -> Result<Option<Parent>, Error> {
    if !is_glob(name)
        && let Some(link) = netlink.link(name).map_err(asking)?
    {
        return Ok(Some(Parent::Device(link)));
    }
    let links = links(netlink)?;
    let found = only(&format!("master {name:?}"), called(&links, name))?;
    if let (None, true, Some((base, id))) = (&found, spelled, Vlan::spelled(name)) {
        let base = only(&format!("master {base:?}"), called(&links, base))?;
        let base = base.map(|base| real(netlink, base)).transpose()?;
        return Ok(base.map(|base| Parent::Vlan(Vlan { base, id })));
    }
    Ok(found.map(Parent::Device))
}

fn first_of(netlink: &Netlink, names: &[String], spelled: bool) -> Result<Option<Parent>, Error> {
    for name in names {
        if let Some(parent) = named(netlink, name, spelled)? {
            return Ok(Some(parent));
        }
    }
    Ok(None)
}

/// The device on which the kernel puts a macvlan that is to sit on `link`: never on another
/// macvlan, but beside it.
fn real(netlink: &Netlink, link: Link) -> Result<Link, Error> {
    match link
        .parent
        .filter(|_| is_macvlan(&link) && link.parent_netnsid.is_none())
    {
        Some(below) => Ok(netlink
            .link_by_index(below)
            .map_err(asking)?
            .unwrap_or(link)),
        None => Ok(link),
    }
}

/// Those of the links that `name` may mean.
fn called(links: &[Link], name: &str) -> Vec<Link> {
    let mut found: Vec<Link> = links
        .iter()
        .filter(|link| is_called(link, name))
        .cloned()
        .collect();
    // What containers brought with them is nobody's master by accident.
    let is_ours = |link: &Link| Shared::Vlan.is(link) || Shared::Shim.is(link);
    found.retain(|link| !is_glob(name) || !(link.loopback || is_ours(link)));
    if found.len() > 1 && name.parse::<Mac>().is_ok() {
        // A bridge or bond shares the MAC of a port, and a port can have no macvlan; a VLAN or a
        // macvlan in mode passthru shares that of the device below, which is the one that the MAC
        // was read off.
        found.retain(|link| link.master.is_none() && !is_stacked(link));
    }
    found
}

fn is_called(link: &Link, name: &str) -> bool {
    if is_glob(name) {
        let pattern = WildMatch::new(name);
        return pattern.matches(&link.name)
            || link.alt_names.iter().any(|alt| pattern.matches(alt));
    }
    link.name == name
        || link.alt_names.iter().any(|alt| alt == name)
        || link.alias.as_deref() == Some(name)
        || name
            .parse()
            .is_ok_and(|mac: Mac| link.mac == Some(mac) && !mac.is_zero())
}

/// The devices that have an address in `subnet`. A macvlan on the host (by which it reaches its own
/// containers) stands for its parent, as it does for the kernel.
fn in_subnet(links: &[Link], addresses: &[Address], subnet: IpNet) -> Vec<Link> {
    let mut found: Vec<Link> = Vec::new();
    for address in addresses
        .iter()
        .filter(|address| subnet.contains(&address.net.addr()))
    {
        let by_index = |index| links.iter().find(|link| link.index == index);
        let Some(link) = by_index(address.index) else {
            continue;
        };
        let below = link
            .parent
            .filter(|_| link.macvlan.is_some() && link.parent_netnsid.is_none());
        let link = below.and_then(by_index).unwrap_or(link);
        if !found.iter().any(|known| known.index == link.index) {
            found.push(link.clone());
        }
    }
    found
}

/// The only one of them; `None` if there is none.
fn only(what: &str, mut found: Vec<Link>) -> Result<Option<Link>, Error> {
    if found.len() > 1 {
        return Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!("{what} is ambiguous: {}", names(&found)),
        )
        .details("name one of them, or list names in order of preference"));
    }
    Ok(found.pop())
}

/// The device of the default route with the lowest metric, IPv4 before IPv6, as the Go plugin
/// chooses it.
fn default_route(netlink: &Netlink) -> Result<Link, Error> {
    let mut routes = netlink.routes(None).map_err(asking)?;
    routes.retain(|route| route.dst.prefix_len() == 0 && route.table == Route::MAIN);
    routes.sort_by_key(|route| (matches!(route.dst, IpNet::V6(_)), route.metric));
    let Some(index) = routes.first().map(|route| route.index) else {
        return Err(missing(
            netlink,
            "no master is configured, and no default route names a device",
        ));
    };
    match netlink.link_by_index(index).map_err(asking)? {
        Some(link) => Ok(link),
        None => Err(missing(netlink, "the default route's device is gone")),
    }
}

fn missing(netlink: &Netlink, what: &str) -> Error {
    let error = Error::new(code::INVALID_NETWORK_CONFIG, what);
    match netlink.links() {
        Ok(mut links) => {
            links.retain(|link| !link.loopback);
            error.details(match links.as_slice() {
                [] => "there is no device but lo".to_owned(),
                links => format!("devices that exist: {}", names(links)),
            })
        }
        Err(_) => error,
    }
}

fn names(links: &[Link]) -> String {
    links
        .iter()
        .map(|link| link.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the link has its MAC from the one that it sits on.
fn is_stacked(link: &Link) -> bool {
    matches!(
        link.kind.as_deref(),
        Some("vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap")
    )
}

/// Brackets are not special: names of devices may have them.
fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

fn links(netlink: &Netlink) -> Result<Vec<Link>, Error> {
    netlink.links().map_err(asking)
}

fn addresses(netlink: &Netlink) -> Result<Vec<Address>, Error> {
    netlink.all_addresses().map_err(asking)
}

fn asking(error: linknet::Error) -> Error {
    Error::new(codes::KERNEL, "looking for the parent device failed").details(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MAC, device, macvlan};

    fn names_of(found: &[Link]) -> Vec<&str> {
        found.iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn globs_match_as_a_shell_would() {
        for (pattern, name, matches) in [
            ("en*", "enp3s0", true),
            ("en*", "eth0", false),
            ("eth?", "eth1", true),
            ("eth?", "eth10", false),
            ("eth?", "eth", false),
            ("*", "lo", true),
            ("*.5", "eth0.5", true),
            ("e*1*0", "eth100", true),
            ("e[t]*", "eth0", false),
        ] {
            assert_eq!(
                is_called(&device(name), pattern),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_device_answers_to_all_its_names() {
        let link = Link {
            alt_names: vec!["enp0s31f6".to_owned()],
            alias: Some("uplink".to_owned()),
            ..device("eth0")
        };
        for name in [
            "eth0",
            "enp0s31f6",
            "enp*",
            "uplink",
            "52:54:00:00:00:01",
            "52-54-00-00-00-01",
        ] {
            assert!(is_called(&link, name), "{name}");
        }
        for name in ["eth", "eth00", "up*", "52:54:00:00:00:02"] {
            assert!(!is_called(&link, name), "{name}");
        }
    }

    #[test]
    fn a_pattern_means_no_link_that_is_there_for_containers_only() {
        let vlan = Link {
            kind: Some("vlan".to_owned()),
            alias: Some("leasehold:vlan".to_owned()),
            ..device("eth0.5")
        };
        let shim = Link {
            alias: Some("leasehold:host".to_owned()),
            ..macvlan("lh-eth0")
        };
        let all = [device("eth0"), vlan, shim];
        assert_eq!(names_of(&called(&all, "*eth0*")), ["eth0"]);
        assert_eq!(names_of(&called(&all, "eth0.5")), ["eth0.5"]);
    }

    #[test]
    fn a_mac_means_the_bridge_rather_than_its_port_and_the_device_rather_than_its_vlan() {
        let port = Link {
            index: 3,
            master: Some(4),
            ..device("eth0")
        };
        let bridge = Link {
            index: 4,
            kind: Some("bridge".to_owned()),
            ..device("br0")
        };
        let vlan = Link {
            index: 5,
            kind: Some("vlan".to_owned()),
            parent: Some(4),
            ..device("br0.5")
        };
        let all = [port.clone(), bridge, vlan];
        assert_eq!(names_of(&called(&all, &MAC.to_string())), ["br0"]);
        // With nothing else of that MAC, the port is meant; why it will not do is said later.
        assert_eq!(names_of(&called(&[port], &MAC.to_string())), ["eth0"]);
    }

    #[test]
    fn a_subnet_means_the_device_below_the_hosts_own_macvlan() {
        let address = |index, net: &str| Address {
            index,
            net: net.parse().unwrap(),
            peer: None,
            broadcast: None,
            scope: linknet::Scope::UNIVERSE,
            valid: None,
            preferred: None,
            dad: linknet::Dad::Done,
            secondary: false,
            metric: None,
            protocol: None,
        };
        let links = [
            device("eth0"),
            macvlan("shim"),
            Link {
                index: 9,
                ..device("eth9")
            },
        ];
        let addresses = [
            address(2, "10.0.0.5/24"),
            address(7, "10.0.0.6/32"),
            address(2, "10.0.0.7/24"),
            address(9, "10.9.0.5/24"),
        ];
        let found = |subnet: &str| in_subnet(&links, &addresses, subnet.parse().unwrap());
        assert_eq!(names_of(&found("10.0.0.0/24")), ["eth0"]);
        assert_eq!(names_of(&found("10.0.0.6/32")), ["eth0"]);
        assert_eq!(names_of(&found("10.0.0.0/8")), ["eth0", "eth9"]);
        assert!(found("192.0.2.0/24").is_empty());
        let error = only("master", found("10.0.0.0/8")).unwrap_err();
        assert!(error.msg.contains("eth0, eth9"), "{error}");
    }
}
