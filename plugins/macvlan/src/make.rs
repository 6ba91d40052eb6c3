//! Making the interface, and unmaking it.

use std::path::Path;
use std::slice;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::delegate::Ipam;
use cni::{Error, code};
use linknet::{Link, Netlink, Netns, NewMacvlan};

use crate::config::Config;
use crate::diagnosis::{self, Diagnosis, Scene, also};
use crate::mark::Mark;
use crate::parent::Parent;
use crate::{codes, container, remains};

/// How long to wait for what a dead container's interface still holds: its netns is torn down in
/// the background.
const DYING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Everything that takes part in making the interface.
pub(crate) struct Workshop<'a> {
    pub(crate) config: &'a Config,
    pub(crate) ipam: Option<&'a Ipam<'a>>,
    pub(crate) mark: &'a Mark,
    pub(crate) ifname: &'a str,
    /// What it sits on, and a socket that sees that.
    pub(crate) parent: &'a Parent,
    pub(crate) outside: &'a Netlink,
    /// The container, and a socket in it.
    pub(crate) netns: &'a Netns,
    pub(crate) inside: &'a Netlink,
}

/// What has been made.
pub(crate) struct Made {
    /// The interface.
    pub(crate) link: Link,
    /// The link that it sits on.
    pub(crate) parent: Link,
}

impl Workshop<'_> {
    /// Makes the interface in the container: its name, MAC, MTU and mode, marked as unfinished, up,
    /// with one message.
    ///
    /// What an ADD of the same attachment has left that was killed gives way; what stands in the
    /// way for a moment only is waited for. Only a refusal makes for further questions.
    pub(crate) fn make(&self) -> Result<Made, Error> {
        let deadline = Instant::now() + DYING;
        loop {
            let held = self.parent.hold(self.outside)?;
            self.ensure_suitable(&held.link)?;
            let refusal =
                match self
                    .outside
                    .add_macvlan(&self.wanted(&held.link), self.netns, self.inside)
                {
                    Ok(link) => {
                        return Ok(Made {
                            link: self.with_mac(link)?,
                            parent: held.link,
                        });
                    }
                    Err(refusal) => refusal,
                };
            if self.clear_away()? {
                continue;
            }
            let Diagnosis { error, passing } = self.diagnose(&refusal, &held.link)?;
            if !passing || Instant::now() >= deadline {
                return Err(error);
            }
            drop(held);
            sleep(PAUSE);
        }
    }

    fn wanted<'a>(&'a self, parent: &Link) -> NewMacvlan<'a> {
        NewMacvlan {
            mode: self.config.mode,
            mac: self.config.mac,
            mtu: self.config.mtu,
            nopromisc: self.config.nopromisc,
            sources: &self.config.sources,
            bc_queue_len: self.config.bc_queue_len,
            bc_cutoff: self.config.bc_cutoff,
            group: self.mark.group,
            up: true,
            ..NewMacvlan::new(self.ifname, parent.index)
        }
    }

    /// # Errors
    /// As [`diagnosis::fits`]; 11 where a lease is wanted and the parent is down: an address can be
    /// given without the LAN, a lease cannot, and there is no need to find that out in a minute.
    fn ensure_suitable(&self, parent: &Link) -> Result<(), Error> {
        diagnosis::fits(parent, self.config)?;
        if !parent.up && self.ipam.is_some_and(|ipam| ipam.name() == "dhcp") {
            let what = format!("no lease can be had: {}", self.troubles(parent).join("; "));
            return Err(Error::new(code::TRY_AGAIN_LATER, what));
        }
        Ok(())
    }

    /// What stands between the LAN and the link that the interface sits on.
    pub(crate) fn troubles(&self, parent: &Link) -> Vec<String> {
        // Sysfs shows the plugin's own namespace.
        let sysfs = (!self.config.link_in_container).then_some(Path::new(diagnosis::SYSFS));
        match diagnosis::parent_troubles(self.parent.device(), sysfs) {
            none if none.is_empty() => diagnosis::parent_troubles(parent, sysfs),
            troubles => troubles,
        }
    }

    /// Takes the interface away again after `error`, which is what the caller needs to hear.
    pub(crate) fn unmake(&self, link: &Link, error: Error) -> Error {
        let remains = remains::remove(self.inside, self.mark, slice::from_ref(link));
        match remains.and(self.inside.delete_link(link.index)) {
            Ok(()) => error,
            Err(second) if second.is_absent() => error,
            Err(second) => also(
                error,
                &format!("removing {} again failed too: {second}", link.name),
            ),
        }
    }

    /// In mode passthru the kernel gives the interface its parent's MAC whatever was asked for;
    /// setting it afterwards sets the parent's too, and the kernel undoes that when the interface
    /// goes.
    fn with_mac(&self, link: Link) -> Result<Link, Error> {
        match self.config.mac {
            Some(mac) if link.mac != Some(mac) => match self.inside.set_mac(link.index, mac) {
                Ok(()) => Ok(Link {
                    mac: Some(mac),
                    ..link
                }),
                Err(error) => Err(self.unmake(&link, asking(&error))),
            },
            _ => Ok(link),
        }
    }

    /// Removes what an ADD of this attachment has begun and not finished, and says whether there
    /// was anything. IPAM goes first: a release is sent from the interface, and some plugins give
    /// an attachment no second address.
    fn clear_away(&self) -> Result<bool, Error> {
        let mut left = self.inside.links().map_err(|error| asking(&error))?;
        left.retain(|link| self.mark.is_unfinished(link));
        if left.is_empty() {
            return Ok(false);
        }
        if let Some(Err(error)) = self.ipam.map(Ipam::del) {
            eprintln!("macvlan: what an earlier ADD had from IPAM was not given back: {error}");
        }
        remains::remove(self.inside, self.mark, &left).map_err(|error| asking(&error))?;
        for link in &left {
            eprintln!(
                "macvlan: {} was left unfinished by an earlier ADD and is made anew",
                link.name
            );
            match self.inside.delete_link(link.index) {
                Err(error) if !error.is_absent() => return Err(asking(&error)),
                _ => {}
            }
        }
        Ok(true)
    }

    fn diagnose(&self, refusal: &linknet::Error, parent: &Link) -> Result<Diagnosis, Error> {
        let beside = self.outside.links().map_err(|error| asking(&error))?;
        let inside = self.inside.links().map_err(|error| asking(&error))?;
        let others =
            container::macvlans_on(self.outside, parent.index, !self.config.link_in_container)?;
        let scene = Scene {
            config: self.config,
            ifname: self.ifname,
            mark: self.mark,
            parent,
            beside: &beside,
            inside: &inside,
            others: &others,
        };
        Ok(diagnosis::of_creation(refusal, &scene))
    }
}

/// The kernel could not be asked.
pub(crate) fn asking(error: &linknet::Error) -> Error {
    Error::new(codes::KERNEL, error.to_string())
}
