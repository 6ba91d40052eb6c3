//! How a host reaches the containers on its own parent link.
//!
//! ```text
//!   host's netns                          a container's
//!   eth1 192.168.1.10/24 ──┐              eth0 192.168.1.50/24
//!                          ├── parent ─── (macvlan)
//!   lh-eth1 (macvlan) ─────┘
//!   192.168.1.50 dev lh-eth1 scope link src 192.168.1.10 proto 108 metric <tag>
//! ```
//!
//! A parent and the macvlans on it never hear each other; two macvlans in mode bridge do. So the
//! host gets one of its own, the shim, and a route through it to each container's address. The shim
//! has no address: packets bear the parent's, and what the container asks for by ARP the shim
//! answers, since any link of a host answers for all of its addresses. IPv6 has no such custom (RFC
//! 4861 §7.2.3), so there the container has a route by way of the shim's link-local address.
//!
//! Who needs the shim can be told by the routes alone, each of which bears the tag of an attachment
//! as its metric: the shim goes with the last of them.

mod make;
mod source;
mod tag;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Link, Lock, Mac, Netlink, Netns, Protocol, Result, Route, Shared};

pub use tag::Tag;

/// The shims of a namespace and the routes through them, for as long as nobody else may touch them.
#[derive(Debug)]
pub struct Shims {
    netns: Netns,
    netlink: Netlink,
    _lock: Lock,
}

/// A route by which the host reaches a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Whose it is.
    pub tag: Tag,
    /// The container's address.
    pub to: IpAddr,
    /// The link that it goes through: a shim, as long as nobody has meddled.
    pub index: u32,
}

/// What a container needs to know of the host that reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The container's address.
    pub to: IpAddr,
    /// The address that the host speaks to it from; `None` if the host has none to its name.
    pub from: Option<IpAddr>,
    /// The shim's link-local address.
    pub shim: IpAddr,
}

impl HostRoute {
    /// Those of the namespace that the socket sees.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn all(netlink: &Netlink) -> Result<Vec<HostRoute>> {
        let routes = netlink.routes_of(Protocol::LEASEHOLD)?;
        Ok(routes.iter().filter_map(HostRoute::read).collect())
    }

    fn read(route: &Route) -> Option<HostRoute> {
        let ours = route.protocol == Protocol::LEASEHOLD
            && route.dst.prefix_len() == route.dst.max_prefix_len()
            && route.gateway.is_none()
            && route.table == Route::MAIN;
        ours.then_some(HostRoute {
            tag: Tag(route.metric),
            to: route.dst.addr(),
            index: route.index,
        })
    }

    fn route(self, source: Option<IpAddr>) -> Route {
        Route {
            metric: self.tag.0,
            protocol: Protocol::LEASEHOLD,
            source,
            ..Route::new(self.to, self.index)
        }
    }
}

impl Reached {
    /// The route that the container needs to the host, on its interface of this number, where
    /// `on_link` are the prefixes that are on the link there anyway. `None` if it gets there
    /// without.
    pub fn way_back(&self, index: u32, on_link: &[IpNet]) -> Option<Route> {
        let from = self.from?;
        let route = Route {
            protocol: Protocol::LEASEHOLD,
            ..Route::new(from, index)
        };
        match from {
            IpAddr::V6(_) => Some(route.via(self.shim)),
            IpAddr::V4(_) if on_link.iter().any(|prefix| prefix.contains(&from)) => None,
            IpAddr::V4(_) => Some(route),
        }
    }
}

impl Shims {
    /// Those of `netns`, which is the parents'.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the process has no descriptor left.
    pub fn of(netns: &Netns, lock: Lock) -> Result<Shims> {
        let netns = netns
            .try_clone()
            .map_err(|error| Error::io("keep a network namespace", &error))?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Shims {
            netns,
            netlink,
            _lock: lock,
        })
    }

    /// The shim on a parent, if there is one, ready for use or not. No lock is needed to look.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn find(netlink: &Netlink, parent: &Link) -> Result<Option<Link>> {
        let is_it = |link: &Link| {
            Shared::Shim.is(link)
                && link.parent == Some(parent.index)
                && link.parent_netnsid.is_none()
        };
        // Its name is a good guess, and cheaper than all links.
        match netlink.link(&make::name(&parent.name))?.filter(is_it) {
            Some(shim) => Ok(Some(shim)),
            None => Ok(netlink.links()?.into_iter().find(is_it)),
        }
    }

    /// The routes that there are.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes(&self) -> Result<Vec<HostRoute>> {
        HostRoute::all(&self.netlink)
    }

    /// Makes the host reach these addresses on a parent, through the shim that is there or one made
    /// now. Routes that the attachment has to other addresses stay.
    ///
    /// # Errors
    /// What the kernel refuses; `is_exists` if the shim's name is taken. What was made by then
    /// stays, for [`Shims::part`] to remove.
    pub fn join(&self, parent: u32, tag: Tag, addresses: &[IpAddr]) -> Result<Vec<Reached>> {
        let with_ipv6 = addresses.iter().any(IpAddr::is_ipv6);
        let (shim, parent) = self.shim(parent, with_ipv6)?;
        let shim_address = link_local(shim.mac.unwrap_or(Mac([0; 6])));
        let mut reached = Vec::new();
        for &to in addresses {
            let from = source::choose(&self.netlink, &parent, to)?;
            self.netlink.replace_route(
                &HostRoute {
                    tag,
                    to,
                    index: shim.index,
                }
                .route(from),
            )?;
            reached.push(Reached {
                to,
                from,
                shim: shim_address,
            });
        }
        Ok(reached)
    }

    /// Removes the routes that `is_over` says so of, and every shim that nobody needs any more.
    /// Returns the routes that went.
    ///
    /// # Errors
    /// What the kernel refuses first; the rest is done all the same.
    pub fn part(&self, is_over: impl Fn(&HostRoute) -> bool) -> Result<Vec<HostRoute>> {
        self.part_with(is_over, |shim| self.netlink.delete_link(shim.index))
    }

    /// The same for a process that ends soon, without waiting for more than that the shims are
    /// gone: see [`Netlink::delete_link_soon`].
    ///
    /// # Errors
    /// As for [`Shims::part`].
    pub fn part_soon(&self, is_over: impl Fn(&HostRoute) -> bool) -> Result<Vec<HostRoute>> {
        self.part_with(is_over, |shim| {
            self.netlink.delete_link_soon(&self.netns, shim.index)
        })
    }

    fn part_with(
        &self,
        is_over: impl Fn(&HostRoute) -> bool,
        delete: impl Fn(&Link) -> Result<()>,
    ) -> Result<Vec<HostRoute>> {
        let (over, mut left): (Vec<_>, Vec<_>) = self.routes()?.into_iter().partition(is_over);
        let mut outcome = Ok(());
        let mut gone = Vec::new();
        for route in over {
            match self.netlink.delete_route(&route.route(None)) {
                Err(error) if !error.is_absent() => {
                    left.push(route);
                    outcome = outcome.and(Err(error));
                }
                _ => gone.push(route),
            }
        }
        let needed = |shim: &Link| left.iter().any(|route| route.index == shim.index);
        for shim in self
            .netlink
            .links()?
            .iter()
            .filter(|link| Shared::Shim.is(link) && !needed(link))
        {
            match delete(shim) {
                Err(error) if !error.is_absent() => outcome = outcome.and(Err(error)),
                _ => {}
            }
        }
        outcome.map(|()| gone)
    }
}

/// The link-local address that the kernel makes of a MAC (RFC 4291, appendix A).
fn link_local(Mac([a, b, c, d, e, f]): Mac) -> IpAddr {
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 0b10,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
    .into()
}
