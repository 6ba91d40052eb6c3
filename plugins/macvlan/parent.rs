//! Which device of the host a macvlan sits on: `master` in all its forms, so that one configuration fits every node.

use std::fmt;

use cni::{Error, code};
use ipnet::IpNet;
use linknet::{Link, Netlink, Route};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// The `master` key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// A name, alternative name, alias or MAC; or a glob over names (`en*`, `eth?`).
    Name(String),
    /// The first of these that exists.
    FirstOf(Vec<String>),
    /// `{"subnet": "192.168.1.0/24"}`: the device that has an address in there.
    InSubnet(IpNet),
}

/// Finds the parent among the links that `netlink` sees; without a selector, that of the default route.
///
/// # Errors
/// 7 when there is none (with the names that exist) or more than one (with the candidates).
pub(crate) fn find(netlink: &Netlink, selector: Option<&Selector>) -> Result<Link, Error> {
    match selector {
        None => default_route(netlink),
        Some(Selector::Name(name)) => match named(netlink, name)? {
            Some(link) => Ok(link),
            None => Err(missing(netlink, &format!("master {name:?} does not exist"))),
        },
        Some(Selector::FirstOf(names)) => {
            for name in names {
                if let Some(link) = named(netlink, name)? {
                    return Ok(link);
                }
            }
            Err(missing(netlink, &format!("none of master {names:?} exists")))
        }
        Some(Selector::InSubnet(subnet)) => in_subnet(netlink, *subnet),
    }
}

/// The link that `name` means: exactly, or as another of its names, or as a pattern.
fn named(netlink: &Netlink, name: &str) -> Result<Option<Link>, Error> {
    if !is_glob(name)
        && let Some(link) = netlink.link(name).map_err(asking)?
    {
        return Ok(Some(link));
    }
    let links = netlink.links().map_err(asking)?;
    one_of(&format!("master {name:?}"), links.into_iter().filter(|link| is_called(link, name)).collect())
}

fn is_called(link: &Link, name: &str) -> bool {
    let mac = |mac: linknet::Mac| mac.to_string().eq_ignore_ascii_case(name);
    if is_glob(name) {
        return matches_glob(name, &link.name) || link.alt_names.iter().any(|alt| matches_glob(name, alt));
    }
    // A macvlan in passthru mode, a VLAN or a bridge port shares its parent's MAC: the device itself is meant.
    link.alt_names.iter().any(|alt| alt == name)
        || link.alias.as_deref() == Some(name)
        || (link.mac.is_some_and(mac) && link.parent.is_none() && link.kind.as_deref() != Some("bridge"))
}

fn in_subnet(netlink: &Netlink, subnet: IpNet) -> Result<Link, Error> {
    let mut found = Vec::new();
    for link in netlink.links().map_err(asking)? {
        let addresses = netlink.addresses(link.index).map_err(asking)?;
        if addresses.iter().any(|address| subnet.contains(&address.net.addr())) {
            found.push(link);
        }
    }
    let what = format!("master {{\"subnet\": \"{subnet}\"}}");
    match one_of(&what, found)? {
        Some(link) => Ok(link),
        None => Err(missing(netlink, &format!("{what}: no device has an address in it"))),
    }
}

/// The only one of them; `None` if there is none.
fn one_of(what: &str, mut found: Vec<Link>) -> Result<Option<Link>, Error> {
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|link| link.name.as_str()).collect();
        return Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!("{what} is ambiguous: {}", names.join(", ")),
        )
        .details("name one of them, or list names in order of preference"));
    }
    Ok(found.pop())
}

/// The device of the default route with the lowest metric, IPv4 before IPv6, as the Go plugin chooses it.
fn default_route(netlink: &Netlink) -> Result<Link, Error> {
    let mut routes = netlink.routes(None).map_err(asking)?;
    routes.retain(|route| route.dst.prefix_len() == 0 && route.table == Route::MAIN);
    routes.sort_by_key(|route| (matches!(route.dst, IpNet::V6(_)), route.metric));
    let Some(index) = routes.first().map(|route| route.index) else {
        return Err(missing(netlink, "no master is configured, and no default route names a device"));
    };
    match netlink.link_by_index(index).map_err(asking)? {
        Some(link) => Ok(link),
        None => Err(missing(netlink, "the default route's device is gone")),
    }
}

fn missing(netlink: &Netlink, what: &str) -> Error {
    let mut error = Error::new(code::INVALID_NETWORK_CONFIG, what);
    if let Ok(links) = netlink.links() {
        let names: Vec<String> =
            links.into_iter().map(|link| link.name).filter(|name| name != "lo").collect();
        error = error.details(match names.as_slice() {
            [] => "there is no device but lo".to_owned(),
            names => format!("devices that exist: {}", names.join(", ")),
        });
    }
    error
}

fn asking(error: linknet::Error) -> Error {
    Error::new(code::IO_FAILURE, format!("looking for the parent device failed: {error}"))
}

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Shell patterns with `*` and `?`; nothing else is special, since device names hold brackets too.
fn matches_glob(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            name.char_indices().map(|(i, _)| i).chain([name.len()]).any(|i| matches_glob(rest, &name[i..]))
        }
        (Some('?'), Some(any)) => matches_glob(&pattern[1..], &name[any.len_utf8()..]),
        (Some(wanted), Some(found)) if wanted == found => {
            matches_glob(&pattern[wanted.len_utf8()..], &name[found.len_utf8()..])
        }
        _ => false,
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_any(SelectorVisitor)
    }
}

struct SelectorVisitor;

impl<'de> Visitor<'de> for SelectorVisitor {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device name, a list of them, or {\"subnet\": \"192.168.1.0/24\"}")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Selector, E> {
        Ok(Selector::Name(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Selector, A::Error> {
        let mut all = Vec::new();
        while let Some(name) = names.next_element()? {
            all.push(name);
        }
        if all.is_empty() {
            return Err(de::Error::custom("the list is empty"));
        }
        Ok(Selector::FirstOf(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
        match map.next_entry::<String, String>()? {
            Some((key, subnet)) if key == "subnet" => {
                let subnet: IpNet =
                    subnet.parse().map_err(|_| de::Error::custom(format_args!("{subnet:?} is no subnet")))?;
                Ok(Selector::InSubnet(subnet.trunc()))
            }
            _ => Err(de::Error::custom("only {\"subnet\": \"…\"} is understood")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_a_shell_would() {
        for (pattern, name, matches) in [
            ("en*", "enp3s0", true),
            ("en*", "eth0", false),
            ("eth?", "eth1", true),
            ("eth?", "eth10", false),
            ("*", "lo", true),
            ("*.5", "eth0.5", true),
            ("e*1*0", "eth100", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches_glob(pattern, name), matches, "{pattern} {name}");
        }
    }
}
