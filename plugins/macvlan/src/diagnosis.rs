//! What a refusal of the kernel means here, in words that name the device in the way and the one to
//! use.
//!
//! Nothing is asked of the kernel before it has refused: a success costs nothing. The functions
//! here are pure; who calls them gathers the [`Scene`].

use std::path::{Path, PathBuf};

use cni::{Error, code};
use linknet::{Link, MacvlanMode};

use crate::codes;
use crate::config::Config;
use crate::mark::{Mark, is_macvlan, is_marked};

/// What there is to know about a refusal.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// What was to be made.
    pub(crate) config: &'a Config,
    /// Its name.
    pub(crate) ifname: &'a str,
    /// Its mark.
    pub(crate) mark: &'a Mark,
    /// On what.
    pub(crate) parent: &'a Link,
    /// The links beside the parent.
    pub(crate) beside: &'a [Link],
    /// The links in the container.
    pub(crate) inside: &'a [Link],
    /// The macvlans that others have on the parent, with the path of their namespace where they are
    /// elsewhere.
    pub(crate) others: &'a [(Option<PathBuf>, Link)],
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// For the user.
    pub(crate) error: Error,
    /// Whether it may be over in a moment: the kernel takes down a dead container's namespace in
    /// the background, and until then its interfaces keep what they had.
    pub(crate) passing: bool,
}

/// Why no macvlan can be on `parent` as configured, where this can be seen before the kernel is
/// asked.
///
/// # Errors
/// 7: `lo`, a device that is not Ethernet, an MTU over the parent's, the parent's own MAC.
pub(crate) fn fits(parent: &Link, config: &Config) -> Result<(), Error> {
    let refuse = |what: String| Error::new(code::INVALID_NETWORK_CONFIG, what);
    if parent.loopback {
        return Err(refuse(format!(
            "{} is the loopback device, which leads to no LAN",
            parent.name
        ))
        .details("master must be the device that is plugged into the LAN"));
    }
    let Some(parent_mac) = parent.mac else {
        let kind = parent
            .kind
            .as_deref()
            .map(|kind| format!(" ({kind})"))
            .unwrap_or_default();
        return Err(refuse(format!(
            "{}{kind} is not an Ethernet device, as a macvlan needs",
            parent.name
        )));
    };
    if let Some(mtu) = config.mtu.filter(|&mtu| mtu > parent.mtu) {
        return Err(refuse(format!(
            "invalid network configuration: mtu: {mtu} is more than the {} of {}",
            parent.mtu, parent.name
        ))
        .details(format!("leave mtu out to get that of {}", parent.name)));
    }
    if config.mac == Some(parent_mac) && config.mode != MacvlanMode::Passthru {
        return Err(refuse(format!(
            "MAC {parent_mac} is that of {} itself",
            parent.name
        ))
        .details("a macvlan has a MAC of its own, in every mode but passthru"));
    }
    Ok(())
}

/// What it means that the interface could not be made.
pub(crate) fn of_creation(refusal: &linknet::Error, scene: &Scene<'_>) -> Diagnosis {
    if refusal.is_exists() {
        return name_taken(scene).in_full(refusal);
    }
    let what = format!(
        "macvlan {} on {} could not be made",
        scene.ifname, scene.parent.name
    );
    let verdict = if refusal.is_address_in_use() {
        mac_taken(scene)
    } else if refusal.is_busy() {
        busy(scene)
    } else if refusal.is_invalid() && refusal.kernel_text().is_none() {
        exclusive(scene)
    } else if refusal.is_absent() {
        Verdict::passing(format!("{} has just disappeared", scene.parent.name))
    } else if refusal.is_denied() {
        Verdict::of(
            codes::KERNEL,
            "CAP_NET_ADMIN is missing, on the host or over the container".to_owned(),
        )
    } else if refusal.is_unsupported() {
        Verdict::of(
            codes::NO_DRIVER,
            "this kernel has no macvlan driver".to_owned(),
        )
        .advice(DRIVER)
    } else {
        let code = if refusal.kernel_text().is_some() {
            code::INVALID_NETWORK_CONFIG
        } else {
            codes::KERNEL
        };
        return Verdict::of(code, what).in_full(refusal);
    };
    Verdict {
        why: format!("{what}: {}", verdict.why),
        ..verdict
    }
    .in_full(refusal)
}

/// What to do where there is no driver.
pub(crate) const DRIVER: &str =
    "modprobe macvlan; it may be in a package of its own, such as linux-modules-extra";

/// What stands between the parent and the LAN, as far as the kernel shows it; empty when all is
/// well. It does not keep an interface from being made.
pub(crate) fn parent_troubles(parent: &Link, sysfs: Option<&Path>) -> Vec<String> {
    let name = &parent.name;
    let mut troubles = Vec::new();
    if !parent.up {
        troubles.push(format!("{name} is down (ip link set {name} up)"));
    } else if !parent.carrier {
        troubles.push(format!("{name} has no carrier: is the cable in?"));
    }
    let wireless = |folder: &Path| {
        let device = folder.join(name);
        device.join("wireless").exists() || device.join("phy80211").exists()
    };
    if sysfs.is_some_and(wireless) {
        troubles.push(format!(
            "{name} is wireless, and access points pass no frames of other MACs than their stations' own: \
             a macvlan needs a wired device"
        ));
    }
    troubles
}

/// Where sysfs shows the devices of the plugin's own namespace.
pub(crate) const SYSFS: &str = "/sys/class/net";

/// Appends to the details.
#[must_use]
pub(crate) fn also(mut error: Error, what: &str) -> Error {
    if !error.details.is_empty() {
        error.details.push_str("; ");
    }
    error.details.push_str(what);
    error
}

/// A finding, before it is put together with the kernel's own words.
struct Verdict {
    code: u32,
    why: String,
    advice: String,
    passing: bool,
}

impl Verdict {
    fn of(code: u32, why: String) -> Verdict {
        Verdict {
            code,
            why,
            advice: String::new(),
            passing: false,
        }
    }

    fn config(why: String) -> Verdict {
        Verdict::of(code::INVALID_NETWORK_CONFIG, why)
    }

    fn passing(why: String) -> Verdict {
        Verdict {
            passing: true,
            ..Verdict::of(code::TRY_AGAIN_LATER, why)
        }
    }

    fn advice(self, advice: impl Into<String>) -> Verdict {
        Verdict {
            advice: advice.into(),
            ..self
        }
    }

    fn in_full(self, refusal: &linknet::Error) -> Diagnosis {
        let Verdict {
            code,
            why,
            advice,
            passing,
        } = self;
        Diagnosis {
            error: also(Error::new(code, why).details(advice), &refusal.to_string()),
            passing,
        }
    }
}

fn name_taken(scene: &Scene<'_>) -> Verdict {
    let there = scene.inside.iter().find(|link| link.name == scene.ifname);
    let whose = match there {
        Some(link) if scene.mark.is_finished(link) => {
            ": this ADD has been done, and DEL must come before another"
        }
        Some(link) if is_marked(link) => " and is another attachment's",
        Some(_) => " and was not made for this attachment",
        None => "",
    };
    let kind = there
        .and_then(|link| link.kind.as_deref())
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    let why = format!(
        "CNI_IFNAME: {}{kind} exists in the container already{whose}",
        scene.ifname
    );
    Verdict::of(code::INVALID_ENVIRONMENT, why)
}

/// EADDRINUSE: two interfaces of one parent that are up cannot have the same MAC.
fn mac_taken(scene: &Scene<'_>) -> Verdict {
    let Some(mac) = scene.config.mac else {
        return Verdict::passing("the MAC that the kernel chose is in use".to_owned());
    };
    let holder = scene.others.iter().find(|(_, link)| link.mac == Some(mac));
    let whose = holder.map_or("another macvlan of it".to_owned(), describe);
    let why = format!("{whose} has MAC {mac}");
    Verdict::passing(why).advice("the container that had it may be on its way out")
}

/// EBUSY: the kernel hands what a device receives to one taker only. Before Linux 5.17 also: two of
/// the same MAC.
fn busy(scene: &Scene<'_>) -> Verdict {
    let parent = scene.parent;
    if let Some(kind) = &parent.port_kind {
        let master = scene
            .beside
            .iter()
            .find(|link| Some(link.index) == parent.master);
        let name = master.map_or(kind.as_str(), |link| link.name.as_str());
        return Verdict::config(format!(
            "{} is a port of {kind} {name}, which takes all of its frames",
            parent.name
        ))
        .advice(format!("use {name} as master"));
    }
    let ipvlan = |link: &&Link| {
        link.parent == Some(parent.index)
            && matches!(link.kind.as_deref(), Some("ipvlan" | "ipvtap"))
    };
    if let Some(ipvlan) = scene.beside.iter().find(ipvlan) {
        return Verdict::config(format!(
            "{} carries ipvlan {}, and cannot carry both kinds",
            parent.name, ipvlan.name
        ))
        .advice(format!(
            "use another device as master, or a bridge with {} as its port",
            parent.name
        ));
    }
    if scene.config.mac.is_some() {
        return mac_taken(scene);
    }
    Verdict::config(format!("something else takes all frames of {}", parent.name)).advice(format!(
        "does a container have an ipvlan on it? use another device as master, or a bridge with {} as its port",
        parent.name
    ))
}

/// EINVAL without a word of explanation, when everything else has been looked at before: a passthru
/// macvlan has its parent to itself.
fn exclusive(scene: &Scene<'_>) -> Verdict {
    let parent = &scene.parent.name;
    let wanted = scene.config.mode == MacvlanMode::Passthru;
    let holders: Vec<String> = scene
        .others
        .iter()
        .filter(|(_, link)| wanted || mode(link) == Some(MacvlanMode::Passthru))
        .map(describe)
        .collect();
    let rule = match wanted {
        true => format!("mode passthru needs {parent} to itself"),
        false => format!("a macvlan in mode passthru has {parent} to itself"),
    };
    match holders.as_slice() {
        [] => Verdict::passing(rule).advice(format!(
            "whose macvlan it is cannot be seen from here; its container may be on its way out, or use another device \
             than {parent}"
        )),
        holders if wanted => Verdict::config(format!("{rule}, and there is {}", holders.join(", "))),
        holders => Verdict::config(format!("{rule}: {}", holders.join(", ")))
            .advice("use another device as master, or mode bridge for both"),
    }
}

fn describe((netns, link): &(Option<PathBuf>, Link)) -> String {
    match netns {
        Some(netns) => format!("{} in {}", link.name, netns.display()),
        None => link.name.clone(),
    }
}

fn mode(link: &Link) -> Option<MacvlanMode> {
    link.macvlan.as_ref().filter(|_| is_macvlan(link))?.mode
}

#[cfg(test)]
mod tests;
