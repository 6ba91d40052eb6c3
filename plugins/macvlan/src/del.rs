//! DEL: releases the addresses and removes the interface, whichever of the two still exist.

use std::net::IpAddr;

use attachment::{KernelError, OwnerMark, SharedKeys, codes, is_macvlan};
use cni::delegate::Ipam;
use cni::{Attachment, CniResult, Error, Request};
use linknet::{Link, Netlink, Netns, or_absent};

use crate::config::Config;
use crate::parent::{self, Detached, Parent, SharedVlan};
use crate::{cleanup, guard, host_access, netns, refused_routes};

/// Detaches the container. Every step is tried, whichever failed before it: above all the interface
/// is removed. Only while the kernel does not say whether there is one, nothing is given back.
///
/// The addresses are taken off before IPAM gives them back, so that no other container gets one
/// that this one still answers for. The interface is removed after that, because a DHCP RELEASE is
/// sent from it. Where the addresses cannot be taken off, it is removed before: the DHCP server is
/// not told then, and keeps the address until the lease ends.
///
/// Everything that can happen before the interface is removed does: older kernels answer no request
/// for an RCU grace period after the removal.
///
/// # Errors
/// That of the first step that failed.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let attachment = request.attachment()?;
    let mut steps = Steps::default();
    let config = Config::read(request).ok();
    let reported = Reported::find(request, attachment);
    let find = || Container::find(request, attachment, config.as_ref(), reported.as_ref());
    // Without this nothing could be removed, and what failed may work a moment later.
    let found = steps.note(find().or_else(|_| find()));
    // An interface that was not found may still answer for its addresses.
    let is_found = found.is_some();
    let (container, ours) = found.flatten().unzip();
    let ours = ours.unwrap_or_default();
    let mark = OwnerMark::new(attachment);
    if let Some(container) = &container {
        let given = reported.as_ref().map(|reported| &*reported.addresses);
        let taken_off = cleanup::take_addresses_off(&container.inside, &ours, given);
        if let Err(error) = taken_off {
            let ifname = attachment.ifname();
            log::warn!("removing {ifname} before its addresses are given back: {error}");
            let removed = container.remove(&mark, &ours);
            steps.note(removed.map_err(|error| failed(attachment, &error)));
        }
    }
    if is_found {
        steps.note(Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.del())));
    }
    if let (Some(container), Some(config)) = (&container, &config) {
        let removed = refused_routes::remove(&container.inside, &config.refused_routes);
        steps.note(removed.map_err(|error| failed(attachment, &error)));
    }
    let netns = container.as_ref().map(|container| &container.netns);
    let vlan = steps.note(shared_vlan(config, netns, &ours)).flatten();
    // The daemon, which could have changed them, has released the lease by now.
    steps.note(host_access::detach(request));
    if let Some(container) = &container {
        let removed = container.remove(&mark, &ours);
        let removed = steps.note(removed.map_err(|error| failed(attachment, &error)));
        if removed.is_some() {
            // ADD refuses a value of another type, and so has set nothing.
            let key = SharedKeys::read(request).guard;
            if guard::is_on(&key, &ours) {
                guard::remove(&container.netns, attachment);
            }
        }
    }
    if let Some((vlan, detached)) = vlan {
        steps.note(vlan.remove_if_unused(detached));
    }
    steps.0
}

/// The outcome of several steps: the first error.
struct Steps(Result<(), Error>);

impl Default for Steps {
    fn default() -> Steps {
        Steps(Ok(()))
    }
}

impl Steps {
    /// The value of a step, if it succeeded.
    fn note<T>(&mut self, step: Result<T, Error>) -> Option<T> {
        match step {
            Ok(value) => Some(value),
            Err(error) => {
                if self.0.is_ok() {
                    self.0 = Err(error);
                }
                None
            }
        }
    }
}

/// The container's namespace, with a socket in it.
struct Container {
    netns: Netns,
    inside: Netlink,
}

impl Container {
    /// The namespace, and the attachment's interfaces in it.
    fn find(
        request: &Request,
        attachment: &Attachment,
        config: Option<&Config>,
        reported: Option<&Reported>,
    ) -> Result<Option<(Container, Vec<Link>)>, Error> {
        let Some(container) = Container::open(request, attachment)? else {
            return Ok(None);
        };
        let ours = container.our_links(attachment, config, reported)?;
        Ok(Some((container, ours)))
    }

    /// `None` if the namespace is gone.
    fn open(request: &Request, attachment: &Attachment) -> Result<Option<Container>, Error> {
        let Some(netns) = netns::open_if_exists(request)? else {
            return Ok(None);
        };
        let inside = Netlink::open_in(&netns).map_err(|error| failed(attachment, &error))?;
        Ok(Some(Container { netns, inside }))
    }

    /// The attachment's interface, if it exists, and whatever a killed ADD left behind.
    fn our_links(
        &self,
        attachment: &Attachment,
        config: Option<&Config>,
        reported: Option<&Reported>,
    ) -> Result<Vec<Link>, Error> {
        let all = self.inside.links();
        let all = all.map_err(|error| failed(attachment, &error))?;
        let is_ours = |link: &&Link| match claim(link, attachment, reported) {
            Claim::Ours => true,
            Claim::NotOurs(why) => {
                if link.name == attachment.ifname() {
                    log::warn!("left {} alone, because it {why}", link.name);
                }
                false
            }
        };
        let mut ours: Vec<Link> = all.iter().filter(is_ours).cloned().collect();
        let Some(reported) = reported.filter(|_| ours.is_empty()) else {
            return Ok(ours);
        };
        for link in all.iter().filter(|link| reported.may_be(link)) {
            if self.has_parent_of(config, link)? {
                ours.push(link.clone());
            }
        }
        if ours.is_empty() {
            log::warn!(
                "there is no {ifname} to remove ({mac} in prevResult): it was removed before, or \
                 the container has disguised it or moved it to another network namespace",
                ifname = attachment.ifname(),
                mac = reported.mac
            );
        }
        Ok(ours)
    }

    /// Whether the configuration could have chosen the link's parent.
    fn has_parent_of(&self, config: Option<&Config>, link: &Link) -> Result<bool, Error> {
        let (Some(config), Some(parent)) = (config, link.parent) else {
            return Ok(false);
        };
        let host = match config.link_in_container {
            true => None,
            false => Some(Netlink::open().or_kernel_error()?),
        };
        let parents_netnsid = match &host {
            None => None,
            Some(_) => match self.inside.nsid(&netns::own()?).or_kernel_error()? {
                None => return Ok(false),
                number => number,
            },
        };
        let outside = host.as_ref().unwrap_or(&self.inside);
        if link.parent_netnsid != parents_netnsid {
            return Ok(false);
        }
        match outside.link_by_index(parent).or_kernel_error()? {
            Some(parent) => parent::matches_config(outside, config, &parent),
            None => Ok(false),
        }
    }

    /// Removes what belongs to the attachment.
    ///
    /// # Errors
    /// The first refusal; the others are still tried.
    fn remove(&self, mark: &OwnerMark, links: &[Link]) -> linknet::Result<()> {
        let mut outcome = cleanup::remove(&self.inside, mark, links);
        for link in links {
            let deleted = self.inside.delete_link_nowait(&self.netns, link.index);
            outcome = outcome.and(or_absent(deleted));
        }
        outcome
    }
}

/// The VLAN that may be unused once these interfaces are gone, if leasehold created it. Where there
/// are no interfaces any more, the configuration says which VLAN it may have been.
fn shared_vlan(
    config: Option<Config>,
    container: Option<&Netns>,
    ours: &[Link],
) -> Result<Option<(SharedVlan, Detached)>, Error> {
    let in_container = config
        .as_ref()
        .is_some_and(|config| config.link_in_container);
    let parents = container.filter(|_| in_container);
    if in_container && parents.is_none() {
        return Ok(None); // gone with the container
    }
    let netlink = parents.map_or_else(Netlink::open, Netlink::open_in);
    let netlink = netlink.or_kernel_error()?;
    let index = match ours.first() {
        Some(link) => link.parent,
        None => match config.map(|config| parent::find(&netlink, &config)) {
            Some(Ok(Parent::Vlan(vlan))) => vlan.find(&netlink)?.map(|link| link.index),
            // A device stays, and a parent that does not exist needs nothing done.
            _ => None,
        },
    };
    // Only a container that cannot be entered may still be being removed.
    let detached = match container {
        Some(_) => Detached::Yes,
        None => Detached::Unknown,
    };
    let vlan = index.map_or(Ok(None), |index| SharedVlan::find(netlink, parents, index))?;
    Ok(vlan.map(|vlan| (vlan, detached)))
}

/// What `prevResult` says of the attachment's interface.
#[derive(Debug, PartialEq, Eq)]
struct Reported {
    /// Empty if the plugin that created the interface has not reported it.
    mac: String,
    /// The addresses that IPAM has given to it, and those of which it is unknown to which interface.
    addresses: Vec<IpAddr>,
}

impl Reported {
    fn find(request: &Request, attachment: &Attachment) -> Option<Reported> {
        let previous = request.config.prev_result.as_ref()?;
        Reported::in_result(previous, attachment.ifname())
    }

    /// `None` if the result does not list the interface, as before version 0.3.0.
    fn in_result(result: &CniResult, ifname: &str) -> Option<Reported> {
        let mut interfaces = result.interfaces.iter().enumerate();
        let (position, interface) = interfaces
            .find(|(_, interface)| interface.name == ifname && !interface.sandbox.is_empty())?;
        let ours = result.ips.iter();
        let ours = ours.filter(|ip| ip.interface.is_none_or(|at| at == position));
        Some(Reported {
            mac: interface.mac.clone(),
            addresses: ours.map(|ip| ip.address.addr()).collect(),
        })
    }

    fn has_mac_of(&self, link: &Link) -> bool {
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        self.mac.eq_ignore_ascii_case(&mac)
    }

    /// Whether the link may be the interface without its mark and under another name: root in the
    /// container can change both. On one parent, only one macvlan that is up can have a MAC. One
    /// with another attachment's mark is that attachment's.
    fn may_be(&self, link: &Link) -> bool {
        is_macvlan(link) && !OwnerMark::is_on(link) && self.has_mac_of(link)
    }
}

fn failed(attachment: &Attachment, error: &linknet::Error) -> Error {
    let what = format!("cannot remove {}", attachment.ifname());
    Error::new(codes::KERNEL, what).details(error.to_string())
}

/// Whether a link belongs to the attachment.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Ours,
    NotOurs(&'static str),
}

fn claim(link: &Link, attachment: &Attachment, reported: Option<&Reported>) -> Claim {
    let mark = OwnerMark::new(attachment);
    if mark.is_unfinished(link) || mark.is_finished(link) {
        return Claim::Ours;
    }
    if !is_macvlan(link) {
        return Claim::NotOurs("is not a macvlan");
    }
    if OwnerMark::is_on(link) {
        return Claim::NotOurs("belongs to another attachment");
    }
    if link.name != attachment.ifname() {
        return Claim::NotOurs("has another name");
    }
    // The Go plugin created it and left no mark: its MAC is that of the result, if the runtime kept
    // it.
    match reported {
        Some(reported) if !reported.mac.is_empty() && !reported.has_mac_of(link) => {
            Claim::NotOurs("does not have the MAC that prevResult lists")
        }
        _ => Claim::Ours,
    }
}

#[cfg(test)]
mod tests {
    use cni::Version;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{device, macvlan};

    /// Claims the link for eth0 of c1 in lan, with this `prevResult`.
    fn claimed(link: &Link, previous: &Value) -> Claim {
        let attachment = Attachment::new("c1", "lan", "eth0").unwrap();
        let previous = (!previous.is_null())
            .then(|| CniResult::from_value(previous.clone(), Version::V1_0_0).unwrap());
        let reported = previous.and_then(|result| Reported::in_result(&result, "eth0"));
        claim(link, &attachment, reported.as_ref())
    }

    /// A result that lists eth0 with this MAC.
    fn reported(mac: &str) -> Value {
        json!({ "interfaces": [{ "name": "eth0", "mac": mac, "sandbox": "/run/netns/c1" }] })
    }

    fn with_alias(alias: &str) -> Link {
        Link {
            alias: Some(alias.to_owned()),
            ..macvlan("eth0")
        }
    }

    #[test]
    fn a_link_with_the_attachments_mark_is_removed_whatever_its_name_and_mac() {
        let mac = reported("02:00:00:00:00:99");
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
        let attachment = Attachment::new("c1", "lan", "eth0").unwrap();
        let group = OwnerMark::new(&attachment).group;
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
    fn a_link_with_another_attachments_mark_stays() {
        for alias in [
            "leasehold:eth0/c2/lan",
            "leasehold:eth0/c1/wan",
            "leasehold:net1/c1/lan",
        ] {
            assert_eq!(
                claimed(&with_alias(alias), &Value::Null),
                Claim::NotOurs("belongs to another attachment"),
                "{alias}"
            );
        }
    }

    #[test]
    fn a_link_of_the_go_plugins_is_recognised_by_name_and_mac() {
        let known = reported;
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
        // An alias of the user's own is not a mark.
        assert_eq!(claimed(&with_alias("uplink"), &Value::Null), Claim::Ours);
    }

    #[test]
    fn a_link_that_is_not_a_macvlan_stays() {
        let veth = Link {
            kind: Some("veth".to_owned()),
            ..device("eth0")
        };
        assert_eq!(
            claimed(&veth, &Value::Null),
            Claim::NotOurs("is not a macvlan")
        );
    }

    #[test]
    fn a_disguised_link_has_the_reported_mac_and_no_mark() {
        let result = CniResult::from_value(reported("02:00:00:00:00:07"), Version::V1_0_0);
        let known = Reported::in_result(&result.unwrap(), "eth0").unwrap();
        assert!(known.may_be(&macvlan("foo")));
        assert!(!known.may_be(&with_alias("leasehold:eth1/c1/wan")));
        assert!(!known.may_be(&device("foo")));
        let unknown = Reported {
            mac: String::new(),
            ..known
        };
        assert!(!unknown.may_be(&macvlan("foo")));
    }

    #[test]
    fn the_addresses_to_take_off_are_those_of_the_interface() {
        let result = json!({
            "interfaces": [
                { "name": "eth0", "mac": "02:00:00:00:00:01" },
                { "name": "eth0", "mac": "02:00:00:00:00:07", "sandbox": "/run/netns/c1" },
            ],
            "ips": [
                { "address": "10.98.0.5/24", "interface": 0 },
                { "address": "10.99.0.5/24", "interface": 1 },
                { "address": "fd99::5/64" },
            ],
        });
        let result = CniResult::from_value(result, Version::V1_0_0).unwrap();
        let known = Reported::in_result(&result, "eth0").unwrap();
        let addresses: [IpAddr; 2] = ["10.99.0.5", "fd99::5"].map(|text| text.parse().unwrap());
        assert_eq!(known.addresses, addresses);
        assert_eq!(Reported::in_result(&result, "eth1"), None);
    }
}
