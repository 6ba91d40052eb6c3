//! Creating the interface, and removing it after a failure.

use std::path::Path;
use std::slice;
use std::thread::sleep;
use std::time::{Duration, Instant};

use attachment::guard::NewGuard;
use attachment::{KernelError, OwnerMark};
use cni::delegate::Ipam;
use cni::{Attachment, Error, code};
use linknet::{Link, NewMacvlan, or_absent};

use super::refusal::{Diagnosis, RefusalContext, diagnose};
use crate::config::Config;
use crate::netns::{self, Namespaces};
use crate::parent::{self, Parent};
use crate::{cleanup, guard, refused_routes};

/// How long to wait for a name or an address of a dead container, whose namespace the kernel tears
/// down in the background. On a busy machine that takes some seconds.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before another attempt.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Where sysfs shows the devices of the plugin's own namespace.
const SYSFS: &str = "/sys/class/net";

/// The parameters and sockets of an ADD.
pub(super) struct AttachContext<'a> {
    pub(super) config: &'a Config,
    pub(super) attachment: &'a Attachment,
    pub(super) mark: &'a OwnerMark,
    pub(super) ipam: Option<&'a Ipam<'a>>,
    pub(super) parent: &'a Parent,
    pub(super) namespaces: &'a Namespaces,
}

/// An interface that was created.
pub(super) struct Created {
    pub(super) link: Link,
    /// The link that it sits on.
    pub(super) parent: Link,
    /// Its guard, if there is one.
    pub(super) guard: Option<NewGuard>,
}

impl AttachContext<'_> {
    /// Creates the interface in the container with one message: its name, MAC, MTU and mode, up,
    /// and marked as unfinished.
    ///
    /// Replaces leftovers of a killed ADD of the same attachment. After a refusal whose cause may
    /// disappear by itself, waits and tries again.
    pub(super) fn create(&self) -> Result<Created, Error> {
        let deadline = Instant::now() + TEARDOWN_TIMEOUT;
        let Namespaces {
            container, inside, ..
        } = self.namespaces;
        let outside = self.namespaces.outside();
        loop {
            let locked = self.parent.lock(outside)?;
            let parent = locked.link.clone();
            self.ensure_parent_suitable(&parent)?;
            let created = outside.add_macvlan(&self.new_macvlan(&parent), container, inside);
            // Others wait for the lock, and what follows a refusal may take long.
            drop(locked);
            let refusal = match created {
                Ok(link) => {
                    let link = self.with_requested_mac(link)?;
                    let guard = self.guard(&link)?;
                    return Ok(Created {
                        link,
                        parent,
                        guard,
                    });
                }
                Err(refusal) => refusal,
            };
            if self.remove_stale()? {
                continue;
            }
            let Diagnosis { error, temporary } = self.diagnose(&refusal, &parent)?;
            if !temporary || Instant::now() >= deadline {
                return Err(error);
            }
            sleep(RETRY_INTERVAL);
        }
    }

    fn new_macvlan(&self, parent: &Link) -> NewMacvlan<'_> {
        NewMacvlan {
            mode: self.config.mode,
            mac: self.config.mac,
            mtu: self.config.mtu,
            nopromisc: self.config.nopromisc,
            sources: &self.config.sources,
            bc_queue_len: self.config.bc_queue_len,
            bc_cutoff: self.config.bc_cutoff,
            group: self.mark.group,
            // A guarded one is set up when its guard is there.
            up: self.config.guard.is_off(),
            ..NewMacvlan::new(self.attachment.ifname(), parent.index)
        }
    }

    /// # Errors
    /// As for [`parent::ensure_suitable`]; 11 if an address is to be leased and the parent is down.
    /// A static address can be set without the LAN. A lease cannot be obtained, and the DHCP client
    /// would need a minute to find that out.
    fn ensure_parent_suitable(&self, parent: &Link) -> Result<(), Error> {
        parent::ensure_suitable(parent, self.config)?;
        if !parent.up && self.ipam.is_some_and(|ipam| ipam.name() == "dhcp") {
            let what = format!(
                "cannot lease an address: {}",
                self.obstacles(parent).join("; ")
            );
            return Err(Error::new(code::TRY_AGAIN_LATER, what));
        }
        Ok(())
    }

    /// The obstacles between the LAN and the link that the interface sits on. What was an obstacle
    /// when the parent was looked up is looked up again: an ADD may have waited for a minute since.
    pub(super) fn obstacles(&self, parent: &Link) -> Vec<String> {
        let base = self.parent.base();
        if self.obstacles_of(base, parent).is_empty() {
            return Vec::new();
        }
        let current = |link: &Link| {
            let found = self.namespaces.outside().link_by_index(link.index);
            found.ok().flatten().unwrap_or_else(|| link.clone())
        };
        self.obstacles_of(&current(base), &current(parent))
    }

    fn obstacles_of(&self, base: &Link, parent: &Link) -> Vec<String> {
        // Sysfs shows the plugin's own namespace.
        let sysfs = (!self.config.link_in_container).then_some(Path::new(SYSFS));
        obstacles_between(base, parent, sysfs)
    }

    /// Removes the interface after `error`, and returns that error, which is the one for the user.
    pub(super) fn roll_back(&self, link: &Link, error: Error) -> Error {
        let inside = &self.namespaces.inside;
        let removed = cleanup::remove(inside, self.mark, slice::from_ref(link));
        let removed = removed.and(refused_routes::remove(inside, &self.config.refused_routes));
        let deleted = or_absent(inside.delete_link(link.index));
        if deleted.is_ok() {
            let container = &self.namespaces.container;
            if !self.config.guard.is_off() {
                guard::remove(container, self.attachment);
            }
        }
        match removed.and(deleted) {
            Ok(()) => error,
            Err(second) => {
                error.and_details(&format!("removing {} failed too: {second}", link.name))
            }
        }
    }

    /// In mode passthru the kernel gives the interface its parent's MAC, whatever was asked for.
    /// Setting it afterwards sets the parent's too, which the kernel restores when the interface is
    /// removed.
    fn with_requested_mac(&self, link: Link) -> Result<Link, Error> {
        match self.config.mac {
            Some(mac) if link.mac != Some(mac) => {
                let set = self.namespaces.inside.set_mac(link.index, mac);
                set.or_kernel_error()
                    .map_err(|error| self.roll_back(&link, error))?;
                Ok(Link {
                    mac: Some(mac),
                    ..link
                })
            }
            _ => Ok(link),
        }
    }

    /// Guards the interface, if that is wanted, before it is set up: it has no addresses yet, but
    /// can ask for one by DHCP.
    fn guard(&self, link: &Link) -> Result<Option<NewGuard>, Error> {
        let container = &self.namespaces.container;
        let created = self.config.guard.create(container, self.attachment, link);
        let set_up = |guard: Option<NewGuard>| {
            if guard.is_some() {
                self.namespaces
                    .inside
                    .set_up(link.index)
                    .or_kernel_error()?;
            }
            Ok(guard)
        };
        created
            .map_err(|error| guard::failed(link, &error))
            .and_then(set_up)
            .map_err(|error| self.roll_back(link, error))
    }

    /// Removes what an ADD of this attachment has created and not finished; returns whether there
    /// was anything. IPAM's part is released first: a DHCP RELEASE is sent from the interface, and
    /// some plugins give an attachment no second address.
    fn remove_stale(&self) -> Result<bool, Error> {
        let inside = &self.namespaces.inside;
        let mut stale = inside.links().or_kernel_error()?;
        stale.retain(|link| self.mark.is_unfinished(link));
        if stale.is_empty() {
            return Ok(false);
        }
        if let Some(Err(error)) = self.ipam.map(Ipam::del) {
            log::warn!("could not release the address of an earlier, interrupted ADD: {error}");
        }
        cleanup::remove(inside, self.mark, &stale).or_kernel_error()?;
        for link in &stale {
            log::warn!(
                "replacing {}, which an interrupted ADD left behind",
                link.name
            );
            or_absent(inside.delete_link(link.index)).or_kernel_error()?;
        }
        Ok(true)
    }

    fn diagnose(&self, refusal: &linknet::Error, parent: &Link) -> Result<Diagnosis, Error> {
        let outside = self.namespaces.outside();
        let beside = outside.links().or_kernel_error()?;
        let inside = self.namespaces.inside.links().or_kernel_error()?;
        let in_named = !self.config.link_in_container;
        let others = netns::macvlans_on(outside, parent.index, in_named)?;
        let context = RefusalContext {
            config: self.config,
            ifname: self.attachment.ifname(),
            mark: self.mark,
            parent,
            beside: &beside,
            inside: &inside,
            others: &others,
        };
        Ok(diagnose(refusal, &context))
    }
}

/// The obstacles between the LAN and a parent, which is `base` or a VLAN on it: those of the base
/// come first.
fn obstacles_between(base: &Link, parent: &Link, sysfs: Option<&Path>) -> Vec<String> {
    let of_parent = || parent::obstacles(parent, sysfs);
    if base.index == parent.index {
        return of_parent(); // the parent was asked for later
    }
    match parent::obstacles(base, sysfs) {
        of_base if of_base.is_empty() => of_parent(),
        of_base => of_base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::device;

    #[test]
    fn a_vlan_is_an_obstacle_if_its_base_is_none() {
        let down = |link: Link| Link { up: false, ..link };
        let base = device("eth1");
        let vlan = Link {
            index: 9,
            ..device("eth1.5")
        };
        let found = |base: &Link, parent: &Link| obstacles_between(base, parent, None);
        let names = |obstacles: &[String], name: &str| {
            obstacles.len() == 1 && obstacles[0].contains(&format!("{name} is down"))
        };
        assert!(found(&base, &vlan).is_empty());
        assert!(names(&found(&base, &down(vlan.clone())), "eth1.5"));
        assert!(names(&found(&down(base.clone()), &vlan), "eth1"));
        let both = found(&down(base.clone()), &down(vlan));
        assert!(names(&both, "eth1"), "{both:?}");
        // Without a VLAN, the parent is the base as it was a moment later.
        assert!(found(&down(base.clone()), &base).is_empty());
        assert!(names(&found(&base, &down(base.clone())), "eth1"));
    }
}
