//! DEL: releases the addresses and removes the interface, whichever of the two still exist.

use attachment::{KernelError, OwnerMark, SharedKeys, codes, is_macvlan};
use cni::delegate::Ipam;
use cni::{Attachment, CniResult, Error, Request};
use linknet::{Link, Netlink, Netns, or_absent};

use crate::config::Config;
use crate::parent::{self, Detached, Parent, SharedVlan};
use crate::{cleanup, guard, host_access, netns};

/// Detaches the container. Every step is tried, whichever failed before it: above all the interface
/// is removed.
///
/// The addresses are taken off before IPAM gives them back, so that no other container gets one
/// that this one still answers for. The interface is removed after that, because a DHCP RELEASE is
/// sent from it.
///
/// Everything that can happen before the interface is removed does: older kernels answer no request
/// for an RCU grace period after the removal.
///
/// # Errors
/// That of the first step that failed.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let attachment = request.attachment()?;
    let mut steps = Steps::default();
    let container = steps.note(Container::open(request, attachment)).flatten();
    let previous = request.config.prev_result.as_ref();
    let ours = match &container {
        Some(container) => steps.note(container.our_links(attachment, previous)),
        None => None,
    };
    let ours = ours.unwrap_or_default();
    if let Some(container) = &container {
        let taken_off = cleanup::take_addresses_off(&container.inside, &ours);
        steps.note(taken_off.map_err(|error| failed(attachment, &error)));
    }
    steps.note(Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.del())));
    let config = Config::read(request).ok();
    let netns = container.as_ref().map(|container| &container.netns);
    let vlan = steps.note(shared_vlan(config, netns, &ours)).flatten();
    // The daemon, which could have changed them, has released the lease by now.
    steps.note(host_access::detach(request));
    if let Some(container) = &container {
        let removed = container.remove(&OwnerMark::new(attachment), &ours);
        let removed = steps.note(removed.map_err(|error| failed(attachment, &error)));
        if removed.is_some() {
            // ADD refuses a value of another type, and so has set nothing.
            let key = SharedKeys::read(request).guard;
            guard::remove(&key, &container.netns, attachment);
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
        previous: Option<&CniResult>,
    ) -> Result<Vec<Link>, Error> {
        let links = self.inside.links();
        let mut links = links.map_err(|error| failed(attachment, &error))?;
        links.retain(|link| match claim(link, attachment, previous) {
            Claim::Ours => true,
            Claim::NotOurs(why) => {
                if link.name == attachment.ifname() {
                    log::warn!("left {} alone, because it {why}", link.name);
                }
                false
            }
        });
        Ok(links)
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

fn claim(link: &Link, attachment: &Attachment, previous: Option<&CniResult>) -> Claim {
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
    let mut reported = previous.iter().flat_map(|result| &result.interfaces);
    let reported = reported.find(|interface| interface.name == link.name);
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    match reported {
        Some(reported) if !reported.mac.is_empty() && !reported.mac.eq_ignore_ascii_case(&mac) => {
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
        claim(link, &attachment, previous.as_ref())
    }

    fn with_alias(alias: &str) -> Link {
        Link {
            alias: Some(alias.to_owned()),
            ..macvlan("eth0")
        }
    }

    #[test]
    fn a_link_with_the_attachments_mark_is_removed_whatever_its_name_and_mac() {
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
}
