//! DEL: gives the addresses back and removes the interface, whatever of the two is still there.

use cni::delegate::Ipam;
use cni::{Error, Request};
use linknet::{Link, Netlink, Netns};

use crate::config::Config;
use crate::make::asking;
use crate::mark::{self, Mark};
use crate::parent::{self, Leaving, Parent, SharedVlan};
use crate::{codes, container, host_access, remains};

/// Detaches the container. The interface goes even when IPAM fails; IPAM goes first, because a DHCP
/// RELEASE is sent from the interface.
///
/// Whatever can be asked or done before the interface goes is: for a grace period after that, older
/// kernels answer nobody.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let released = Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.del()));
    let netns = container::open_if_there(request)?;
    let inside = netns
        .as_ref()
        .map(Inside::of)
        .transpose()
        .map_err(|error| failed(request, &error))?;
    let ours = inside
        .as_ref()
        .map_or(Ok(Vec::new()), |inside| inside.ours(request))?;
    let vlan = shared_vlan(request, netns.as_ref(), &ours)?;
    // The daemon, which may have been about to change it, knows by now that this is the end.
    host_access::part(request)?;
    if let Some(inside) = &inside {
        inside
            .remove(&ours, &Mark::of(request))
            .map_err(|error| failed(request, &error))?;
    }
    vlan.map_or(Ok(()), |(vlan, leaving)| vlan.let_go(leaving))?;
    released
}

/// A container that can be entered.
struct Inside<'a> {
    netns: &'a Netns,
    netlink: Netlink,
}

impl<'a> Inside<'a> {
    fn of(netns: &'a Netns) -> linknet::Result<Inside<'a>> {
        Ok(Inside {
            netns,
            netlink: Netlink::open_in(netns)?,
        })
    }

    /// Our interface, if it is there, and whatever an ADD has left that was killed.
    fn ours(&self, request: &Request) -> Result<Vec<Link>, Error> {
        let mark = Mark::of(request);
        let mut links = self
            .netlink
            .links()
            .map_err(|error| failed(request, &error))?;
        links.retain(|link| match claim(link, &mark, request) {
            Claim::Ours => true,
            Claim::NotOurs(why) => {
                if link.name == request.ifname {
                    eprintln!("macvlan: {} {why}: left alone", link.name);
                }
                false
            }
        });
        Ok(links)
    }

    fn remove(&self, links: &[Link], mark: &Mark) -> linknet::Result<()> {
        remains::remove(&self.netlink, mark, links)?;
        for link in links {
            match self.netlink.delete_link_nowait(self.netns, link.index) {
                Err(error) if !error.is_absent() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The VLAN of ours that nobody may be on any longer when these interfaces are gone. Where there
/// are none any more, the configuration says which one it may have been.
fn shared_vlan(
    request: &Request,
    netns: Option<&Netns>,
    ours: &[Link],
) -> Result<Option<(SharedVlan, Leaving)>, Error> {
    let config = Config::read(request).ok();
    let link_in_container = config
        .as_ref()
        .is_some_and(|config| config.link_in_container);
    let inside = netns.filter(|_| link_in_container);
    if link_in_container && inside.is_none() {
        return Ok(None); // gone with the container
    }
    let netlink = inside
        .map_or_else(Netlink::open, Netlink::open_in)
        .map_err(|error| asking(&error))?;
    let index = match ours.first() {
        Some(link) => link.parent,
        None => match config.map(|config| parent::find(&netlink, &config)) {
            Some(Ok(Parent::Vlan(vlan))) => vlan.find(&netlink)?.map(|link| link.index),
            // A device stays, and one that is not found needs nothing done.
            _ => None,
        },
    };
    // Only a container that cannot be entered may still be on its way out.
    let leaving = if netns.is_some() {
        Leaving::Done
    } else {
        Leaving::Maybe
    };
    let vlan = index.map_or(Ok(None), |index| SharedVlan::find(netlink, inside, index))?;
    Ok(vlan.map(|vlan| (vlan, leaving)))
}

fn failed(request: &Request, error: &dyn std::fmt::Display) -> Error {
    Error::new(codes::KERNEL, format!("removing {} failed", request.ifname))
        .details(error.to_string())
}

/// Whose a link is.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Ours,
    NotOurs(&'static str),
}

fn claim(link: &Link, mark: &Mark, request: &Request) -> Claim {
    if mark.is_unfinished(link) || mark.is_finished(link) {
        return Claim::Ours;
    }
    if !mark::is_macvlan(link) {
        return Claim::NotOurs("is no macvlan");
    }
    if mark::is_marked(link) {
        return Claim::NotOurs("is another attachment's");
    }
    if link.name != request.ifname {
        return Claim::NotOurs("is another interface");
    }
    // Made by the Go plugin, which leaves no mark: then its MAC is as the result says, if the
    // runtime kept that.
    let previous = request.config.prev_result.as_ref();
    let known = previous.and_then(|result| {
        result
            .interfaces
            .iter()
            .find(|known| known.name == link.name)
    });
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    match known {
        Some(known) if !known.mac.is_empty() && !known.mac.eq_ignore_ascii_case(&mac) => {
            Claim::NotOurs("has another MAC than prevResult says")
        }
        _ => Claim::Ours,
    }
}

#[cfg(test)]
mod tests {
    use cni::{Env, KnownArgs};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{device, macvlan};

    fn request(prev_result: &Value) -> Request {
        let env: Env = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
        ]
        .into_iter()
        .collect();
        let config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "prevResult": prev_result });
        Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any).unwrap()
    }

    fn claimed(link: &Link, prev_result: &Value) -> Claim {
        let request = request(prev_result);
        claim(link, &Mark::of(&request), &request)
    }

    fn with_alias(alias: &str) -> Link {
        Link {
            alias: Some(alias.to_owned()),
            ..macvlan("eth0")
        }
    }

    #[test]
    fn what_bears_our_mark_is_ours_whatever_its_name_and_mac() {
        let mac = json!({ "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:99" }] });
        let ours = with_alias("leasehold:eth0/c1/lan");
        assert_eq!(claimed(&ours, &mac), Claim::Ours);
        assert_eq!(
            claimed(
                &Link {
                    name: "renamed".to_owned(),
                    ..ours
                },
                &mac
            ),
            Claim::Ours
        );
        let group = Mark::of(&request(&Value::Null)).group;
        assert_eq!(
            claimed(
                &Link {
                    group,
                    ..macvlan("mv01234567")
                },
                &Value::Null
            ),
            Claim::Ours
        );
    }

    #[test]
    fn what_bears_anothers_mark_is_not() {
        for alias in [
            "leasehold:eth0/c2/lan",
            "leasehold:eth0/c1/wan",
            "leasehold:net1/c1/lan",
        ] {
            assert_eq!(
                claimed(&with_alias(alias), &Value::Null),
                Claim::NotOurs("is another attachment's"),
                "{alias}"
            );
        }
    }

    #[test]
    fn what_the_go_plugin_made_is_known_by_name_and_mac() {
        let known = |mac: &str| json!({ "interfaces": [{ "name": "eth0", "mac": mac }] });
        let unmarked = macvlan("eth0");
        assert_eq!(claimed(&unmarked, &known("02:00:00:00:00:07")), Claim::Ours);
        assert_eq!(claimed(&unmarked, &known("")), Claim::Ours);
        assert_eq!(
            claimed(&unmarked, &Value::Null),
            Claim::Ours,
            "before 0.4.0 there is no prevResult"
        );
        assert!(matches!(
            claimed(&unmarked, &known("02:00:00:00:00:99")),
            Claim::NotOurs(_)
        ));
        assert!(matches!(
            claimed(&macvlan("eth1"), &Value::Null),
            Claim::NotOurs(_)
        ));
        // An alias of the user's own is no mark.
        assert_eq!(claimed(&with_alias("uplink"), &Value::Null), Claim::Ours);
    }

    #[test]
    fn another_kind_of_link_is_never_ours() {
        let veth = Link {
            kind: Some("veth".to_owned()),
            ..device("eth0")
        };
        assert_eq!(
            claimed(&veth, &Value::Null),
            Claim::NotOurs("is no macvlan")
        );
    }
}
