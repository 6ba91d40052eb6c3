//! Making the interface, and unmaking it.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::Error;
use cni::delegate::Ipam;
use linknet::{Link, Netlink, Netns, NewMacvlan};

use crate::config::Config;
use crate::diagnosis::{self, Diagnosis, Scene, also};
use crate::mark::{Mark, is_macvlan};
use crate::{codes, container};

/// How long to wait for what a dead container's interface still holds: its netns is torn down in the background.
const DYING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Everything that takes part in making the interface.
pub(crate) struct Workshop<'a> {
    pub(crate) config: &'a Config,
    pub(crate) ipam: Option<&'a Ipam<'a>>,
    pub(crate) mark: &'a Mark,
    pub(crate) ifname: &'a str,
    /// The link that it sits on, and a socket that sees that.
    pub(crate) parent: &'a Link,
    pub(crate) outside: &'a Netlink,
    /// The container, and a socket in it.
    pub(crate) netns: &'a Netns,
    pub(crate) inside: &'a Netlink,
}

impl Workshop<'_> {
    /// Makes the interface in the container: its name, MAC, MTU and mode, marked as unfinished, up, with one message.
    ///
    /// What an ADD of the same attachment has left that was killed gives way; what stands in the way for a moment only
    /// is waited for. Only a refusal makes for further questions.
    pub(crate) fn make(&self) -> Result<Link, Error> {
        let new = NewMacvlan {
            mode: self.config.mode,
            mac: self.config.mac,
            mtu: self.config.mtu,
            nopromisc: self.config.nopromisc,
            sources: &self.config.sources,
            bc_queue_len: self.config.bc_queue_len,
            bc_cutoff: self.config.bc_cutoff,
            group: self.mark.group,
            up: true,
            ..NewMacvlan::new(self.ifname, self.parent.index)
        };
        let deadline = Instant::now() + DYING;
        loop {
            let refusal = match self.outside.add_macvlan(&new, self.netns, self.inside) {
                Ok(link) => return self.with_mac(link),
                Err(refusal) => refusal,
            };
            if self.clear_away()? {
                continue;
            }
            let Diagnosis { error, passing } = self.diagnose(&refusal)?;
            if !passing || Instant::now() >= deadline {
                return Err(error);
            }
            sleep(PAUSE);
        }
    }

    /// Takes the interface away again after `error`, which is what the caller needs to hear.
    pub(crate) fn unmake(&self, link: &Link, error: Error) -> Error {
        match self.inside.delete_link(link.index) {
            Ok(()) => error,
            Err(second) if second.is_absent() => error,
            Err(second) => also(error, &format!("removing {} again failed too: {second}", link.name)),
        }
    }

    /// In mode passthru the kernel gives the interface its parent's MAC whatever was asked for; setting it afterwards
    /// sets the parent's too, and the kernel undoes that when the interface goes.
    fn with_mac(&self, link: Link) -> Result<Link, Error> {
        match self.config.mac {
            Some(mac) if link.mac != Some(mac) => match self.inside.set_mac(link.index, mac) {
                Ok(()) => Ok(Link { mac: Some(mac), ..link }),
                Err(error) => Err(self.unmake(&link, asking(&error))),
            },
            _ => Ok(link),
        }
    }

    /// Removes what an ADD of this attachment has begun and not finished, and says whether there was anything. IPAM goes
    /// first: a release is sent from the interface, and some plugins give an attachment no second address.
    fn clear_away(&self) -> Result<bool, Error> {
        let links = self.inside.links().map_err(|error| asking(&error))?;
        let left: Vec<&Link> = links.iter().filter(|link| self.mark.is_unfinished(link)).collect();
        if left.is_empty() {
            return Ok(false);
        }
        if let Some(Err(error)) = self.ipam.map(Ipam::del) {
            eprintln!("macvlan: what an earlier ADD had from IPAM was not given back: {error}");
        }
        for link in left {
            eprintln!("macvlan: {} was left unfinished by an earlier ADD and is made anew", link.name);
            match self.inside.delete_link(link.index) {
                Err(error) if !error.is_absent() => return Err(asking(&error)),
                _ => {}
            }
        }
        Ok(true)
    }

    fn diagnose(&self, refusal: &linknet::Error) -> Result<Diagnosis, Error> {
        let beside = self.outside.links().map_err(|error| asking(&error))?;
        let inside = self.inside.links().map_err(|error| asking(&error))?;
        let others = self.others(&beside);
        let scene = Scene {
            config: self.config,
            ifname: self.ifname,
            mark: self.mark,
            parent: self.parent,
            beside: &beside,
            inside: &inside,
            others: &others,
        };
        Ok(diagnosis::of_creation(refusal, &scene))
    }

    /// The macvlans on our parent, here and in the namespaces that can be found.
    fn others(&self, beside: &[Link]) -> Vec<(Option<PathBuf>, Link)> {
        let parent = self.parent.parent.filter(|_| is_macvlan(self.parent)).unwrap_or(self.parent.index);
        let on_parent = |link: &Link| is_macvlan(link) && link.parent == Some(parent);
        let mut others: Vec<_> = beside
            .iter()
            .filter(|link| on_parent(link) && link.parent_netnsid.is_none())
            .map(|link| (None, link.clone()))
            .collect();
        if self.config.link_in_container {
            return others;
        }
        for (path, netns) in container::named() {
            let links = Netlink::open_in(&netns).and_then(|netlink| netlink.links()).unwrap_or_default();
            let elsewhere = links.into_iter().filter(|link| on_parent(link) && link.parent_netnsid.is_some());
            others.extend(elsewhere.map(|link| (Some(path.clone()), link)));
        }
        others
    }
}

/// Where sysfs shows the parent, if it does: it shows the plugin's own namespace.
pub(crate) fn sysfs(config: &Config) -> Option<&'static Path> {
    (!config.link_in_container).then_some(Path::new(diagnosis::SYSFS))
}

/// The kernel could not be asked.
pub(crate) fn asking(error: &linknet::Error) -> Error {
    Error::new(codes::KERNEL, error.to_string())
}
