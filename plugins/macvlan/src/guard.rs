//! `guard`: the container speaks only as itself ([`attachment::guard`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use attachment::guard::{self, Guarded, NewGuard};
use attachment::{
    GUARDED_GROUP, Guard, KernelError, OwnerMark, Plan, SharedKeys, differs, kernel_code,
};
use cni::{Attachment, Error, Request};
use ipnet::IpNet;
use linknet::nft::Nft;
use linknet::{Link, Netns};

use crate::netns;

/// ADD: lets the container speak from the addresses of the plan.
///
/// # Errors
/// As for [`failed`].
pub(crate) fn admit(
    key: &Guard,
    new: &NewGuard,
    attachment: &Attachment,
    link: &Link,
    plan: &Plan,
) -> Result<(), Error> {
    let addresses: Vec<IpAddr> = plan.addresses.iter().map(|new| new.net.addr()).collect();
    let guarded = Guarded {
        attachment,
        link,
        addresses: &addresses,
    };
    key.admit(new, guarded)
        .map_err(|error| failed(link, &error))
}

/// CHECK: the guard must be as ADD, or the last renewal, left it, and as the configuration has it.
///
/// # Errors
/// 110 with the first difference.
pub(crate) fn check(
    key: &Guard,
    attachment: &Attachment,
    container: &Netns,
    link: &Link,
    addresses: &[IpNet],
) -> Result<(), Error> {
    if key.is_off() {
        return Ok(());
    }
    let addresses: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
    let guarded = Guarded {
        attachment,
        link,
        addresses: &addresses,
    };
    let compare = || {
        let nft = Nft::open_in(container)?;
        Ok(match key.other(&nft, guarded)? {
            Some(other) => Some(format!(
                "its rules are for {}, and the configuration has {}; if that was changed since \
                 ADD, recreate the container, which it does not reach otherwise",
                in_words(&other),
                in_words(key)
            )),
            None => key.difference(&nft, guarded)?,
        })
    };
    match compare().or_kernel_error()? {
        None => Ok(()),
        Some(how) => Err(differs(&link.name, format_args!("guard: {how}"))),
    }
}

/// What a guard lets in, as the configuration has it.
fn in_words(key: &Guard) -> String {
    match key {
        Guard::Off | Guard::On => "no `allow`".to_owned(),
        Guard::Allow(entries) => {
            let entries: Vec<String> = entries.iter().map(|it| format!("\"{it}\"")).collect();
            format!("`allow` [{}]", entries.join(", "))
        }
    }
}

/// Whether one of these interfaces has a guard, or should have one.
pub(crate) fn is_on(key: &Guard, links: &[Link]) -> bool {
    !key.is_off() || links.iter().any(|link| link.group == GUARDED_GROUP)
}

/// DEL, and an ADD that failed: removes the guard of an interface that is gone. What cannot be
/// removed does no harm without the interface, and is only worth a warning: root in the container
/// can see to it that a table stays.
pub(crate) fn remove(container: &Netns, attachment: &Attachment) {
    let removed = match Nft::open_in(container) {
        // What this kernel does not have, ADD has not created.
        Err(error) if error.is_unsupported() => return,
        Ok(nft) => {
            let removed = guard::remove(&nft, attachment);
            nft.close_nowait();
            removed
        }
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        let ifname = attachment.ifname();
        log::warn!("left the guard of {ifname}, which is gone, in the container: {error}");
    }
}

/// GC: removes the guards in the namespaces that have a name, except those with these aliases. As
/// in DEL, one that cannot be removed is only worth a warning.
///
/// # Errors
/// 111 with the first namespace that cannot be opened.
pub(crate) fn gc(request: &Request, valid: &BTreeSet<String>) -> Result<(), Error> {
    if SharedKeys::read(request).guard.is_off() {
        return Ok(());
    }
    // A comment may be shorter than the alias.
    let is_valid = |mark: &OwnerMark| valid.iter().any(|alias| alias.starts_with(&mark.alias));
    let (_, outcome) = netns::search_named(|path, netns| {
        let is_stale = |mark: &OwnerMark| !is_valid(mark);
        if let Err(error) = guard::remove_stale(netns, &request.config.name, is_stale) {
            log::warn!("left a guard in {}: {error}", path.display());
        }
        Ok(Vec::<()>::new())
    });
    outcome
}

/// The error for a guard that the kernel refuses.
pub(crate) fn failed(link: &Link, error: &linknet::Error) -> Error {
    let what = format!("cannot guard {}", link.name);
    let mut details = error.to_string();
    // The kernel refuses like this, with an explanation, only what another program keeps to itself.
    if error.is_denied() && error.kernel_text().is_some() {
        details.push_str(
            "; end that program, which runs in the container's network namespace, or give the \
             container a new one",
        );
    }
    Error::new(kernel_code(error), what).details(details)
}

#[cfg(test)]
mod tests {
    use linknet::Error as KernelError;

    use super::*;
    use crate::testing::macvlan;

    #[test]
    fn an_interface_is_guarded_by_the_configuration_or_by_its_group() {
        let plain = macvlan("eth0");
        let guarded = Link {
            group: GUARDED_GROUP,
            ..plain.clone()
        };
        assert!(!is_on(&Guard::Off, &[]));
        assert!(!is_on(&Guard::Off, std::slice::from_ref(&plain)));
        assert!(is_on(&Guard::On, &[]));
        assert!(is_on(&Guard::Off, &[plain, guarded]));
    }

    #[test]
    fn what_another_program_keeps_to_itself_is_explained() {
        let details = |errno, text| {
            let refusal = KernelError::refusal("create the guard", errno, text);
            failed(&macvlan("eth0"), &refusal).details
        };
        const EPERM: i32 = 1;
        const EBUSY: i32 = 16;
        let text = Some("owned by another");
        assert!(details(EPERM, text).contains("end that program"));
        assert!(!details(EPERM, None).contains("end that program"));
        assert!(!details(EBUSY, text).contains("end that program"));
    }
}
