//! `guard`: the container speaks only as itself, and only what is allowed reaches it.
//!
//! ```text
//!   container's netns
//!   programs, packet sockets ──▶ table netdev leasehold-eth0, egress of eth0 ──▶ LAN
//!   programs ◀── table inet leasehold-eth0, behind connection tracking ◀── eth0 (with `allow`)
//! ```
//!
//! The rules are tables of nf_tables in the container's namespace, with the interface's name in
//! theirs and the attachment's mark as their comment. They follow from the interface's MAC, the
//! attachment's addresses and the key, so ADD creates them, CHECK compares them, and a renewal
//! replaces them, each as a whole.

mod incoming;
mod key;
mod outgoing;

use std::net::IpAddr;

use cni::Attachment;
use linknet::nft::{Chain, Family, Nft, Table};
use linknet::{Error, Link, Netns, Result, or_absent};

use crate::ownership::OwnerMark;
use outgoing::Own;

pub use key::{Allow, Guard, ParseAllowError, Transport};
pub use outgoing::SOCKET_MARK;

/// How the names of the tables begin. The interface's name follows.
const PREFIX: &str = "leasehold-";

/// What is guarded.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a> {
    /// The attachment.
    pub attachment: &'a Attachment,
    /// Its interface.
    pub link: &'a Link,
    /// The addresses that the container may use.
    pub addresses: &'a [IpAddr],
}

/// A guard that was just created, with no address yet.
#[derive(Debug)]
pub struct NewGuard {
    nft: Nft,
    generation: u32,
}

impl Guard {
    /// Creates the guard of an interface that has no address yet, in the place of an earlier one of
    /// the attachment. `None` if the guard is off.
    ///
    /// # Errors
    /// If the kernel refuses; the error says what it lacks. Then everything is as it was.
    pub fn create(
        &self,
        netns: &Netns,
        attachment: &Attachment,
        link: &Link,
    ) -> Result<Option<NewGuard>> {
        let guarded = Guarded {
            attachment,
            link,
            addresses: &[],
        };
        let tables = self.tables(guarded)?;
        if tables.is_empty() {
            return Ok(None);
        }
        let nft = Nft::open_in(netns)?;
        match nft.create(&tables) {
            Err(error) if error.is_exists() => nft.replace(&tables)?,
            outcome => outcome?,
        }
        let generation = nft.generation()?;
        Ok(Some(NewGuard { nft, generation }))
    }

    /// Lets a container whose guard was just created speak from its addresses.
    ///
    /// # Errors
    /// If the kernel refuses. Then everything is as it was.
    pub fn admit(&self, new: &NewGuard, guarded: Guarded<'_>) -> Result<()> {
        // The DHCP daemon may have replaced it meanwhile.
        if new.nft.generation()? != new.generation {
            return new.nft.replace(&self.tables(guarded)?);
        }
        let own = own(guarded)?;
        let addition = table(guarded.attachment, Family::Netdev, own.of_addresses());
        new.nft.insert(&[addition])
    }

    /// The first difference between the tables as they should be and as they are.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn difference(&self, nft: &Nft, guarded: Guarded<'_>) -> Result<Option<String>> {
        for table in self.tables(guarded)? {
            if let Some(difference) = nft.difference(&table)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    /// The guard that the tables are of, if they are whole, and if it lets in only what it lists, but
    /// something else than this one: the configuration may have changed since.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn other(&self, nft: &Nft, guarded: Guarded<'_>) -> Result<Option<Guard>> {
        let incoming = table(guarded.attachment, Family::Inet, Vec::new());
        let comments = nft.comments(&incoming, incoming::CHAIN)?;
        let entries = comments.iter().filter_map(|comment| comment.parse().ok());
        let other = Guard::Allow(entries.collect());
        match other == *self || comments.is_empty() {
            true => Ok(None),
            false => {
                let is_whole = other.difference(nft, guarded)?.is_none();
                Ok(Some(other).filter(|_| is_whole))
            }
        }
    }

    /// Replaces the tables if they are not as they should be. Returns whether they were not. There
    /// is no moment in which the container can send what neither the old rules nor the new ones
    /// allow.
    ///
    /// # Errors
    /// If the kernel refuses. Then everything is as it was.
    pub fn restore(&self, nft: &Nft, guarded: Guarded<'_>) -> Result<bool> {
        let differs = self.difference(nft, guarded)?.is_some();
        if differs {
            nft.replace(&self.tables(guarded)?)?;
        }
        Ok(differs)
    }

    /// The tables, none if the guard is off.
    fn tables(&self, guarded: Guarded<'_>) -> Result<Vec<Table>> {
        let Guarded {
            attachment, link, ..
        } = guarded;
        let allowed = match self {
            Guard::Off => return Ok(Vec::new()),
            Guard::On => None,
            Guard::Allow(allowed) => Some(allowed),
        };
        let outgoing = own(guarded)?.chains(&link.name);
        let mut tables = vec![table(attachment, Family::Netdev, outgoing)];
        if let Some(allowed) = allowed {
            let incoming = vec![incoming::chain(link.index, allowed)];
            tables.push(table(attachment, Family::Inet, incoming));
        }
        Ok(tables)
    }
}

fn own(guarded: Guarded<'_>) -> Result<Own<'_>> {
    let Guarded {
        link, addresses, ..
    } = guarded;
    let mac = link.mac.ok_or_else(|| {
        let what = format!("guard {}", link.name);
        Error::refusal(what, libc::EADDRNOTAVAIL, Some("it has no MAC"))
    })?;
    Ok(Own { mac, addresses })
}

fn table(attachment: &Attachment, family: Family, chains: Vec<Chain>) -> Table {
    Table {
        family,
        name: table_name(attachment.ifname()),
        comment: OwnerMark::new(attachment).alias,
        chains,
    }
}

/// Removes the tables of an attachment whose interface is gone: as long as it exists, the container
/// could send what it likes afterwards. Those of another attachment stay, whose interface has the
/// same name.
///
/// # Errors
/// The kernel's first refusal. The other table is still removed.
pub fn remove(nft: &Nft, attachment: &Attachment) -> Result<()> {
    let (name, alias) = (
        table_name(attachment.ifname()),
        OwnerMark::new(attachment).alias,
    );
    // A comment may be shorter than the alias.
    let is_ours = |comment: &str| !comment.is_empty() && alias.starts_with(comment);
    delete_tables(nft, |found, comment| found == name && is_ours(comment))
}

/// Removes the tables of a network's attachments for which `is_stale` is true.
///
/// # Errors
/// The kernel's first refusal. The others are still removed.
pub fn remove_stale(
    netns: &Netns,
    network: &str,
    is_stale: impl Fn(&OwnerMark) -> bool,
) -> Result<()> {
    let nft = Nft::open_in(netns)?;
    delete_tables(&nft, |name, comment| {
        let mark = OwnerMark::from_alias_in(comment, network);
        name.starts_with(PREFIX) && mark.is_some_and(|mark| is_stale(&mark))
    })
}

/// Deletes the tables whose name and comment are like this.
fn delete_tables(nft: &Nft, is_like_this: impl Fn(&str, &str) -> bool) -> Result<()> {
    let mut outcome = Ok(());
    for family in [Family::Netdev, Family::Inet] {
        for (name, comment) in nft.tables(family)? {
            if is_like_this(&name, &comment) {
                outcome = outcome.and(or_absent(nft.delete(family, &name)));
            }
        }
    }
    outcome
}

fn table_name(ifname: &str) -> String {
    format!("{PREFIX}{ifname}")
}
