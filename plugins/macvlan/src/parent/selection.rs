//! Finding the parent: `master` in all its forms, so that one configuration fits every node.

use attachment::{KernelError, SharedLink, is_macvlan};
use cni::{Error, code};
use ipnet::IpNet;
use linknet::{Address, Link, Netlink, Route};

use super::choice::Parent;
use super::names;
use super::vlan::Vlan;
use crate::config::{Config, Selector};

/// Finds the parent among the links that `netlink` sees: `master`, or the device of the default
/// route, and the VLAN on it if one is wanted. Instead of a macvlan of the host's it finds the
/// device below, on which the kernel would put a new one.
///
/// # Errors
/// 7 when there is none (with the names that exist) or more than one (with the candidates).
pub(crate) fn find(netlink: &Netlink, config: &Config) -> Result<Parent, Error> {
    let found = match &config.master {
        Some(selector) => select(netlink, selector, config.vlan.is_none())?,
        None => Parent::Device(default_route(netlink)?),
    };
    let Parent::Device(link) = found else {
        return Ok(found);
    };
    let link = resolve_macvlan(netlink, link)?;
    if let Some(id) = config.vlan {
        return Ok(Parent::Vlan(Vlan { base: link, id }));
    }
    match Vlan::of(netlink, &link)?.filter(|_| SharedLink::Vlan.is(&link)) {
        Some(vlan) => Ok(Parent::Vlan(vlan)),
        None => Ok(Parent::Device(link)),
    }
}

/// Whether the configuration could have chosen `parent` when the macvlan was created. It may choose
/// another one now (a better one of the list has appeared, the default route has moved) without
/// making the old choice wrong.
pub(crate) fn matches_config(
    netlink: &Netlink,
    config: &Config,
    parent: &Link,
) -> Result<bool, Error> {
    let selector = config.master.as_ref();
    match (config.vlan, Vlan::of(netlink, parent)?) {
        (None, vlan) => matches_selector(netlink, selector, parent, vlan.as_ref()),
        (Some(id), Some(vlan)) if vlan.id == id => {
            matches_selector(netlink, selector, &vlan.base, None)
        }
        (Some(_), _) => Ok(false),
    }
}

/// Whether `selector` could have chosen `parent`, which is `vlan` if it is one.
fn matches_selector(
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
    let is_dotted = |name: &String| {
        let dotted = Vlan::parse_dotted(name).zip(vlan);
        dotted.is_some_and(|((base, id), vlan)| vlan.id == id && names::is_called(&vlan.base, base))
    };
    if names
        .iter()
        .any(|name| names::is_called(parent, name) || is_dotted(name))
    {
        return Ok(true);
    }
    // The name may be that of a macvlan of the host's on this parent: see `resolve_macvlan`.
    Ok(links(netlink)?.iter().any(|link| {
        link.macvlan.is_some()
            && link.parent == Some(parent.index)
            && names.iter().any(|name| names::is_called(link, name))
    }))
}

/// The parent that `selector` chooses. `allow_dotted`: a name may be that of a VLAN which does not
/// exist yet.
fn select(netlink: &Netlink, selector: &Selector, allow_dotted: bool) -> Result<Parent, Error> {
    let found = match selector {
        Selector::Name(name) => named(netlink, name, allow_dotted)?,
        Selector::FirstOf(names) => {
            let found = names.iter().map(|name| named(netlink, name, allow_dotted));
            found.filter_map(Result::transpose).next().transpose()?
        }
        Selector::InSubnet(subnet) => {
            let links = in_subnet(&links(netlink)?, &addresses(netlink)?, *subnet);
            exactly_one(&selector.to_string(), links)?.map(Parent::Device)
        }
    };
    found.ok_or_else(|| {
        let why = match selector {
            Selector::Name(_) => "does not exist",
            Selector::FirstOf(_) => "does not exist: no device has any of these names",
            Selector::InSubnet(_) => "does not exist: no device has an address in this subnet",
        };
        missing(netlink, &format!("{selector} {why}"))
    })
}

/// The link that has exactly this name, or else the one that another of its names or a glob finds,
/// or else the VLAN that the name describes.
fn named(netlink: &Netlink, name: &str, allow_dotted: bool) -> Result<Option<Parent>, Error> {
    if !names::is_glob(name)
        && let Some(link) = netlink.link(name).or_kernel_error()?
    {
        return Ok(Some(Parent::Device(link)));
    }
    let links = links(netlink)?;
    let find = |name: &str| exactly_one(&format!("master {name:?}"), names::matching(&links, name));
    if let Some(link) = find(name)? {
        return Ok(Some(Parent::Device(link)));
    }
    let Some((base, id)) = Vlan::parse_dotted(name).filter(|_| allow_dotted) else {
        return Ok(None);
    };
    let base = find(base)?.map(|base| resolve_macvlan(netlink, base));
    let base = base.transpose()?;
    Ok(base.map(|base| Parent::Vlan(Vlan { base, id })))
}

/// The device on which the kernel puts a macvlan whose parent is to be `link`: never on another
/// macvlan, but beside it, on the same parent.
fn resolve_macvlan(netlink: &Netlink, link: Link) -> Result<Link, Error> {
    let below = link
        .parent
        .filter(|_| is_macvlan(&link) && link.parent_netnsid.is_none());
    match below {
        Some(below) => Ok(netlink
            .link_by_index(below)
            .or_kernel_error()?
            .unwrap_or(link)),
        None => Ok(link),
    }
}

/// The devices with an address in `subnet`. Instead of a macvlan on the host (through which it
/// reaches its own containers), its parent, as the kernel does.
fn in_subnet(links: &[Link], addresses: &[Address], subnet: IpNet) -> Vec<Link> {
    let by_index = |index| links.iter().find(|link| link.index == index);
    let mut found: Vec<Link> = Vec::new();
    for address in addresses {
        let Some(link) = by_index(address.index).filter(|_| subnet.contains(&address.net.addr()))
        else {
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

/// The only link of `found`; `None` if it is empty.
///
/// # Errors
/// 7 if there are more, with their names.
fn exactly_one(what: &str, mut found: Vec<Link>) -> Result<Option<Link>, Error> {
    if found.len() > 1 {
        let what = format!("{what} is ambiguous: {}", names::list(&found));
        return Err(Error::new(code::INVALID_NETWORK_CONFIG, what)
            .details("name one of them, or list names in order of preference"));
    }
    Ok(found.pop())
}

/// The device of the default route with the lowest metric, IPv4 before IPv6, as in the Go plugin.
fn default_route(netlink: &Netlink) -> Result<Link, Error> {
    let mut routes = netlink.routes(None).or_kernel_error()?;
    routes.retain(|route| route.dst.prefix_len() == 0 && route.table == Route::MAIN);
    routes.sort_by_key(|route| (matches!(route.dst, IpNet::V6(_)), route.metric));
    let Some(index) = routes.first().map(|route| route.index) else {
        let what = "no master is configured, and no default route names a device";
        return Err(missing(netlink, what));
    };
    match netlink.link_by_index(index).or_kernel_error()? {
        Some(link) => Ok(link),
        None => Err(missing(netlink, "the default route's device is gone")),
    }
}

fn missing(netlink: &Netlink, what: &str) -> Error {
    let error = Error::new(code::INVALID_NETWORK_CONFIG, what);
    let Ok(mut links) = netlink.links() else {
        return error;
    };
    links.retain(|link| !link.loopback);
    error.details(match links.as_slice() {
        [] => "there is no device but lo".to_owned(),
        links => format!("devices that exist: {}", names::list(links)),
    })
}

fn links(netlink: &Netlink) -> Result<Vec<Link>, Error> {
    netlink.links().or_kernel_error()
}

fn addresses(netlink: &Netlink) -> Result<Vec<Address>, Error> {
    netlink.all_addresses().or_kernel_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, macvlan};

    fn names_of(found: &[Link]) -> Vec<&str> {
        found.iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn a_vlan_is_chosen_by_its_dotted_name_or_by_the_key_vlan() {
        let netlink = Netlink::open().unwrap();
        let parent = Link {
            index: 5,
            ..device("a-name-of-its-own")
        };
        let vlan = Vlan {
            base: device("eth1"),
            id: 7,
        };
        let by_name = |name: &str| {
            let selector = Selector::Name(name.to_owned());
            matches_selector(&netlink, Some(&selector), &parent, Some(&vlan)).unwrap()
        };
        assert!(by_name("eth1.7"));
        assert!(!by_name("eth1.8"), "another VLAN of the device");
        assert!(!by_name("eth2.7"), "the VLAN of another device");
        assert!(!by_name("eth1"), "the device below is no parent of it");
    }

    #[test]
    fn the_device_below_is_that_of_a_macvlan_on_this_host_only() {
        /// The index of the loopback device, which every namespace has.
        const LO: u32 = 1;
        let netlink = Netlink::open().unwrap();
        let resolved = |link: Link| resolve_macvlan(&netlink, link).unwrap().index;
        let on_lo = Link {
            parent: Some(LO),
            ..macvlan("mv0")
        };
        assert_eq!(resolved(on_lo.clone()), LO);
        let elsewhere = Link {
            parent_netnsid: Some(0),
            ..on_lo.clone()
        };
        let vlan = Link {
            kind: Some("vlan".to_owned()),
            macvlan: None,
            ..on_lo.clone()
        };
        let orphan = Link {
            parent: Some(u32::MAX >> 1),
            ..on_lo
        };
        for link in [elsewhere, vlan, orphan] {
            assert_eq!(resolved(link.clone()), link.index, "{link:?}");
        }
    }

    #[test]
    fn a_vlan_matches_a_configuration_with_its_number_and_base() {
        const LO: u32 = 1;
        let netlink = Netlink::open().unwrap();
        let vlan = Link {
            parent: Some(LO),
            vlan: Some(linknet::Vlan {
                id: 7,
                protocol: linknet::Vlan::C_TAG,
            }),
            ..device("lo.7")
        };
        let matches = |master: Option<&str>, id, parent: &Link| {
            let config = Config {
                master: master.map(|name| Selector::Name(name.to_owned())),
                vlan: id,
                ..Config::default()
            };
            matches_config(&netlink, &config, parent).unwrap()
        };
        assert!(matches(None, None, &vlan) && matches(Some("lo.7"), None, &vlan));
        assert!(matches(Some("lo"), Some(7), &vlan) && matches(None, Some(7), &vlan));
        assert!(!matches(Some("lo"), Some(8), &vlan), "another VLAN");
        assert!(!matches(Some("eth9"), Some(7), &vlan), "on another device");
        assert!(!matches(None, Some(7), &device("eth0")), "no VLAN");
    }

    #[test]
    fn a_subnet_selects_the_device_below_the_hosts_own_macvlan() {
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
            macvlan("lh-eth0"),
            Link {
                index: 9,
                ..device("eth9")
            },
            Link {
                index: 10,
                parent: Some(2),
                ..device("eth0.5")
            },
            Link {
                index: 11,
                parent_netnsid: Some(0),
                ..macvlan("of-another-host")
            },
        ];
        let addresses = [
            address(2, "10.0.0.5/24"),
            address(7, "10.0.0.6/32"),
            address(2, "10.0.0.7/24"),
            address(9, "10.9.0.5/24"),
            address(10, "172.16.0.5/24"),
            address(11, "172.16.1.5/24"),
        ];
        let found = |subnet: &str| in_subnet(&links, &addresses, subnet.parse().unwrap());
        assert_eq!(names_of(&found("10.0.0.0/24")), ["eth0"]);
        assert_eq!(names_of(&found("10.0.0.6/32")), ["eth0"]);
        assert_eq!(names_of(&found("10.0.0.0/8")), ["eth0", "eth9"]);
        assert_eq!(names_of(&found("172.16.0.0/24")), ["eth0.5"]);
        assert_eq!(names_of(&found("172.16.1.0/24")), ["of-another-host"]);
        assert!(found("192.0.2.0/24").is_empty());
        let only = exactly_one("master", found("10.0.0.0/24")).unwrap();
        assert!(only.is_some_and(|link| link.name == "eth0"));
        let error = exactly_one("master", found("10.0.0.0/8")).unwrap_err();
        assert!(error.msg.contains("eth0, eth9"), "{error}");
    }
}
