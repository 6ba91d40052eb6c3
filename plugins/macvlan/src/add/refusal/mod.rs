//! Why the kernel refused to create the interface, in words that name the conflicting device and
//! the one to use instead.
//!
//! The kernel is asked for its objects only after it has refused, so a success costs nothing. The
//! functions here are pure; the caller gathers the [`RefusalContext`].

use std::path::PathBuf;

use attachment::{OwnerMark, codes, is_macvlan};
use cni::{Error, code};
use linknet::{Link, MacvlanMode};

use crate::config::Config;

/// The circumstances of a refusal.
#[derive(Debug)]
pub(super) struct RefusalContext<'a> {
    /// What was to be created.
    pub(super) config: &'a Config,
    /// Its name.
    pub(super) ifname: &'a str,
    /// Its mark.
    pub(super) mark: &'a OwnerMark,
    /// The link that it was to sit on.
    pub(super) parent: &'a Link,
    /// The links in the parent's namespace.
    pub(super) beside: &'a [Link],
    /// The links in the container.
    pub(super) inside: &'a [Link],
    /// The other macvlans on the parent, with the path of their namespace if it is another one.
    pub(super) others: &'a [(Option<PathBuf>, Link)],
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// The error for the user.
    pub(super) error: Error,
    /// Whether the cause may disappear by itself: the kernel tears down a dead container's
    /// namespace in the background, and until then its interfaces keep their names and addresses.
    pub(super) temporary: bool,
}

/// Explains the kernel's refusal to create the macvlan.
pub(super) fn diagnose(refusal: &linknet::Error, context: &RefusalContext<'_>) -> Diagnosis {
    if refusal.is_exists() {
        return name_taken(context).into_diagnosis(refusal);
    }
    let what = format!(
        "cannot create macvlan {} on {}",
        context.ifname, context.parent.name
    );
    let finding = if refusal.is_address_in_use() {
        mac_taken(context)
    } else if refusal.is_busy() {
        busy(context)
    } else if refusal.is_invalid() && refusal.kernel_text().is_none() {
        exclusive(context)
    } else if refusal.is_absent() {
        Finding::temporary(format!("{} has just disappeared", context.parent.name))
    } else if refusal.is_denied() {
        let why = "CAP_NET_ADMIN is missing, on the host or in the container's network namespace";
        Finding::new(codes::KERNEL, why.to_owned())
    } else if refusal.is_unsupported() {
        let why = "this kernel has no macvlan driver";
        Finding::new(codes::NO_DRIVER, why.to_owned()).advice(INSTALL_DRIVER)
    } else {
        let code = match refusal.kernel_text() {
            Some(_) => code::INVALID_NETWORK_CONFIG,
            None => codes::KERNEL,
        };
        return Finding::new(code, what).into_diagnosis(refusal);
    };
    let why = format!("{what}: {}", finding.why);
    Finding { why, ..finding }.into_diagnosis(refusal)
}

/// What to do on a kernel without the driver.
pub(crate) const INSTALL_DRIVER: &str =
    "modprobe macvlan; it may be in a package of its own, such as linux-modules-extra";

/// A cause, before it is combined with the kernel's own words.
struct Finding {
    code: u32,
    why: String,
    advice: String,
    temporary: bool,
}

impl Finding {
    fn new(code: u32, why: String) -> Finding {
        Finding {
            code,
            why,
            advice: String::new(),
            temporary: false,
        }
    }

    fn config(why: String) -> Finding {
        Finding::new(code::INVALID_NETWORK_CONFIG, why)
    }

    fn temporary(why: String) -> Finding {
        Finding {
            temporary: true,
            ..Finding::new(code::TRY_AGAIN_LATER, why)
        }
    }

    fn advice(self, advice: impl Into<String>) -> Finding {
        Finding {
            advice: advice.into(),
            ..self
        }
    }

    fn into_diagnosis(self, refusal: &linknet::Error) -> Diagnosis {
        let error = Error::new(self.code, self.why).details(self.advice);
        Diagnosis {
            error: error.and_details(&refusal.to_string()),
            temporary: self.temporary,
        }
    }
}

fn name_taken(context: &RefusalContext<'_>) -> Finding {
    let ifname = context.ifname;
    let taker = context.inside.iter().find(|link| link.name == ifname);
    let whose = match taker {
        Some(link) if context.mark.is_finished(link) => {
            ": an earlier ADD created it, so DEL must be called first"
        }
        Some(link) if OwnerMark::is_on(link) => " and belongs to another attachment",
        Some(_) => " and was not created for this attachment",
        None => "",
    };
    let kind = taker.and_then(|link| link.kind.as_deref());
    let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
    let why = format!("CNI_IFNAME: {ifname}{kind} already exists in the container{whose}");
    Finding::new(code::INVALID_ENVIRONMENT, why)
}

/// EADDRINUSE: two interfaces of one parent that are up cannot have the same MAC.
fn mac_taken(context: &RefusalContext<'_>) -> Finding {
    let Some(mac) = context.config.mac else {
        return Finding::temporary("the MAC that the kernel chose is in use".to_owned());
    };
    let mut others = context.others.iter();
    let holder = others.find(|(_, link)| link.mac == Some(mac));
    let unknown = || format!("another macvlan on {}", context.parent.name);
    let whose = holder.map_or_else(unknown, describe);
    Finding::temporary(format!("{whose} has MAC {mac}"))
        .advice("the kernel may still be removing the container that had it")
}

/// EBUSY: only one user can receive all frames of a device. Before Linux 5.17 also: two interfaces
/// with the same MAC.
fn busy(context: &RefusalContext<'_>) -> Finding {
    let parent = context.parent;
    let name = &parent.name;
    if let Some(kind) = &parent.port_kind {
        let mut beside = context.beside.iter();
        let master = beside.find(|link| Some(link.index) == parent.master);
        let master = master.map_or(kind.as_str(), |link| link.name.as_str());
        let why = format!("{name} is a port of {kind} {master}, which takes all of its frames");
        return Finding::config(why).advice(format!("use {master} as master"));
    }
    let is_ipvlan = |link: &&Link| {
        link.parent == Some(parent.index)
            && matches!(link.kind.as_deref(), Some("ipvlan" | "ipvtap"))
    };
    let advice = format!("use another device as master, or a bridge with {name} as its port");
    if let Some(ipvlan) = context.beside.iter().find(is_ipvlan) {
        let why = format!(
            "{name} carries ipvlan {}, and cannot carry both kinds",
            ipvlan.name
        );
        return Finding::config(why).advice(advice);
    }
    if context.config.mac.is_some() {
        return mac_taken(context);
    }
    Finding::config(format!("something else takes all frames of {name}"))
        .advice(format!("does a container have an ipvlan on it? {advice}"))
}

/// EINVAL without an explanation, when every other cause has been ruled out: a macvlan in mode
/// passthru has its parent to itself.
fn exclusive(context: &RefusalContext<'_>) -> Finding {
    let parent = &context.parent.name;
    let wants_passthru = context.config.mode == MacvlanMode::Passthru;
    let is_in_the_way = |link: &Link| wants_passthru || mode(link) == Some(MacvlanMode::Passthru);
    let others = context.others.iter();
    let holders: Vec<String> = others
        .filter(|(_, link)| is_in_the_way(link))
        .map(describe)
        .collect();
    let rule = match wants_passthru {
        true => format!("mode passthru needs {parent} to itself"),
        false => format!("a macvlan in mode passthru has {parent} to itself"),
    };
    if holders.is_empty() {
        return Finding::temporary(rule).advice(format!(
            "the other macvlan is in a network namespace without a name: the kernel may \
             still be removing its container; if not, use a device other than {parent}"
        ));
    }
    let holders = holders.join(", ");
    match wants_passthru {
        true => Finding::config(format!("{rule}, and there is {holders}")),
        false => Finding::config(format!("{rule}: {holders}"))
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
