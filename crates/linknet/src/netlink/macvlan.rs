//! macvlan links: what is particular to them, and making one in another namespace.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;

use libc::RTM_NEWLINK;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanFlags,
    MacVlanMacAddressMode, MacVlanMode,
};
use nix::errno::Errno;

use super::link::change;
use super::{Change, Link, Netlink};
use crate::{Error, Mac, Netns, Result};

/// How the macvlans of one parent treat each other (linux/if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MacvlanMode {
    /// They talk to one another directly, as ports of a bridge would.
    #[default]
    Bridge,
    /// They never talk to one another.
    Private,
    /// They talk to one another through the switch outside, which must send frames back where
    /// they came from (802.1Qbg reflective relay, "hairpin").
    Vepa,
    /// The only macvlan of its parent, whose MAC it takes over.
    Passthru,
    /// It receives frames from listed addresses only.
    Source,
}

/// What is particular to a macvlan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macvlan {
    /// Its mode; `None` if the kernel knows one that this library does not.
    pub mode: Option<MacvlanMode>,
    /// Passthru only: the parent was not made promiscuous (`MACVLAN_FLAG_NOPROMISC`).
    pub nopromisc: bool,
    /// Source only: the list is not asked by destination (`MACVLAN_FLAG_NODST`).
    pub nodst: bool,
    /// Source only: the addresses that it receives from.
    pub sources: Vec<Mac>,
    /// The length of the queue of broadcasts that it asked for (`bcqueuelen`).
    pub bc_queue_len: Option<u32>,
    /// The length that the parent's queue has: the longest that any of its macvlans asked for.
    pub bc_queue_len_used: Option<u32>,
    /// From how many recipients on a multicast is left to the queue (`bclim`); `None` at the
    /// kernel's own choice.
    pub bc_cutoff: Option<i32>,
}

/// A macvlan to be made.
#[derive(Debug, Clone)]
pub struct NewMacvlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its parent, by index in the namespace of the socket that makes it.
    pub parent: u32,
    /// Its mode.
    pub mode: MacvlanMode,
    /// Its MAC; the kernel chooses one at random otherwise.
    pub mac: Option<Mac>,
    /// Its MTU; its parent's otherwise.
    pub mtu: Option<u32>,
    /// See [`Macvlan::nopromisc`].
    pub nopromisc: bool,
    /// See [`Macvlan::sources`].
    pub sources: &'a [Mac],
    /// See [`Macvlan::bc_queue_len`].
    pub bc_queue_len: Option<u32>,
    /// See [`Macvlan::bc_cutoff`]. Kernels before 6.5 ignore it; whether it was taken shows when
    /// the link is read back.
    pub bc_cutoff: Option<i32>,
    /// Whether it is set up at once.
    pub up: bool,
    /// See [`Link::group`]. Unlike an alias, the kernel takes it together with everything else, so
    /// that a link can be recognised that was made by somebody who died right after.
    pub group: u32,
}

impl<'a> NewMacvlan<'a> {
    /// A macvlan in bridge mode, down, with all else left to the kernel.
    pub fn new(name: &'a str, parent: u32) -> NewMacvlan<'a> {
        NewMacvlan {
            name,
            parent,
            mode: MacvlanMode::default(),
            mac: None,
            mtu: None,
            nopromisc: false,
            sources: &[],
            bc_queue_len: None,
            bc_cutoff: None,
            up: false,
            group: 0,
        }
    }
}

impl Netlink {
    /// Makes a macvlan in `netns`, on a parent in this socket's namespace, and reads it back
    /// through `inside`, a socket opened in `netns`.
    ///
    /// One message does it all, under the final name. Kernels before 6.15 refuse a name that is
    /// also taken in the parent's namespace, as `eth0` often is; there the link is made under a
    /// name of its own and renamed. That name follows from the link's group, if it has one.
    ///
    /// # Errors
    /// `is_exists` if the name is taken in `netns`, and whatever the driver objects to. Nothing is
    /// left behind.
    pub fn add_macvlan(
        &self,
        new: &NewMacvlan<'_>,
        netns: &Netns,
        inside: &Netlink,
    ) -> Result<Link> {
        let what = || format!("create macvlan {} on link {}", new.name, new.parent);
        match self.change(
            &what,
            RTM_NEWLINK,
            Change::Create,
            &message(new, new.name, new.up, netns),
        ) {
            Err(error) if error.is_exists() && inside.link(new.name)?.is_none() => {
                self.add_macvlan_renamed(&what, new, netns, inside)?;
            }
            end => end?,
        }
        inside.link(new.name)?.ok_or_else(|| gone(what()))
    }

    /// Whether this kernel has macvlans, or the module for them; which is loaded by asking.
    ///
    /// The kernel is asked for a macvlan in a mode that does not exist, on no parent. Whoever has
    /// the driver refuses that (EINVAL) before there is a link.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn has_macvlan(&self) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                MacVlanMode::Other(0),
            )])),
        ]));
        let what = || "ask for the macvlan driver".to_owned();
        match self.change(&what, RTM_NEWLINK, Change::Create, &message) {
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) if error.is_invalid() => Ok(true),
            end => end.map(|()| true),
        }
    }

    /// The detour that older kernels need.
    fn add_macvlan_renamed(
        &self,
        what: &dyn Fn() -> String,
        new: &NewMacvlan<'_>,
        netns: &Netns,
        inside: &Netlink,
    ) -> Result<()> {
        let passing = match new.group {
            0 => format!(
                "mv{:012x}",
                RandomState::new().build_hasher().finish() >> 16
            ),
            group => format!("mv{group:08x}"),
        };
        self.change(
            what,
            RTM_NEWLINK,
            Change::Create,
            &message(new, &passing, false, netns),
        )?;
        let index = inside.link(&passing)?.ok_or_else(|| gone(what()))?.index;

        let mut rename = change(index);
        rename
            .attributes
            .push(LinkAttribute::IfName(new.name.to_owned()));
        set_up(&mut rename, new.up);
        inside.set_link(what, &rename).inspect_err(|_| {
            // The refusal is what matters, and the link cannot be in the way under that name.
            let _ = inside.delete_link(index);
        })
    }
}

impl Macvlan {
    pub(super) fn from_info(infos: Vec<InfoMacVlan>) -> Macvlan {
        let mut macvlan = Macvlan {
            mode: None,
            nopromisc: false,
            nodst: false,
            sources: Vec::new(),
            bc_queue_len: None,
            bc_queue_len_used: None,
            bc_cutoff: None,
        };
        for info in infos {
            match info {
                InfoMacVlan::Mode(mode) => macvlan.mode = mode_from(mode),
                InfoMacVlan::Flags(flags) => {
                    macvlan.nopromisc = flags.contains(MacVlanFlags::NoPromisc);
                    macvlan.nodst = flags.contains(MacVlanFlags::NoDst);
                }
                InfoMacVlan::MacAddrData(addresses) => {
                    macvlan.sources.extend(addresses.into_iter().filter_map(
                        |address| match address {
                            InfoMacVlan::MacAddr(octets) => Some(Mac(octets)),
                            _ => None,
                        },
                    ));
                }
                InfoMacVlan::BcQueueLen(length) => macvlan.bc_queue_len = Some(length),
                InfoMacVlan::BcQueueLenUsed(length) => macvlan.bc_queue_len_used = Some(length),
                InfoMacVlan::BcCutoff(limit) => macvlan.bc_cutoff = Some(limit),
                _ => {}
            }
        }
        macvlan
    }
}

/// The mode is none of the five.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a macvlan mode (bridge, private, vepa, passthru, source)")]
pub struct ParseModeError(String);

impl FromStr for MacvlanMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<MacvlanMode, ParseModeError> {
        match text {
            "bridge" => Ok(MacvlanMode::Bridge),
            "private" => Ok(MacvlanMode::Private),
            "vepa" => Ok(MacvlanMode::Vepa),
            "passthru" => Ok(MacvlanMode::Passthru),
            "source" => Ok(MacvlanMode::Source),
            _ => Err(ParseModeError(text.to_owned())),
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MacvlanMode::Bridge => "bridge",
            MacvlanMode::Private => "private",
            MacvlanMode::Vepa => "vepa",
            MacvlanMode::Passthru => "passthru",
            MacvlanMode::Source => "source",
        })
    }
}

fn message(new: &NewMacvlan<'_>, name: &str, up: bool, netns: &Netns) -> LinkMessage {
    let mut message = LinkMessage::default();
    set_up(&mut message, up);
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::Link(new.parent));
    message
        .attributes
        .push(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
    message.attributes.extend(
        new.mac
            .map(|mac| LinkAttribute::Address(mac.octets().to_vec())),
    );
    message.attributes.extend(new.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(
        Some(new.group)
            .filter(|&group| group != 0)
            .map(LinkAttribute::Group),
    );

    let mut data = vec![InfoMacVlan::Mode(mode_into(new.mode))];
    if new.nopromisc {
        data.push(InfoMacVlan::Flags(MacVlanFlags::NoPromisc));
    }
    if !new.sources.is_empty() {
        let sources = new
            .sources
            .iter()
            .map(|mac| InfoMacVlan::MacAddr(mac.octets()))
            .collect();
        data.push(InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set));
        data.push(InfoMacVlan::MacAddrData(sources));
    }
    data.extend(new.bc_queue_len.map(InfoMacVlan::BcQueueLen));
    data.extend(new.bc_cutoff.map(InfoMacVlan::BcCutoff));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::MacVlan),
        LinkInfo::Data(InfoData::MacVlan(data)),
    ]));
    message
}

pub(super) fn set_up(message: &mut LinkMessage, up: bool) {
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
}

fn mode_into(mode: MacvlanMode) -> MacVlanMode {
    match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
        MacvlanMode::Source => MacVlanMode::Source,
    }
}

fn mode_from(mode: MacVlanMode) -> Option<MacvlanMode> {
    match mode {
        MacVlanMode::Bridge => Some(MacvlanMode::Bridge),
        MacVlanMode::Private => Some(MacvlanMode::Private),
        MacVlanMode::Vepa => Some(MacvlanMode::Vepa),
        MacVlanMode::Passthrough => Some(MacvlanMode::Passthru),
        MacVlanMode::Source => Some(MacvlanMode::Source),
        _ => None,
    }
}

/// Made, and gone before it could be looked at: its parent or namespace went.
fn gone(what: String) -> Error {
    Error::kernel(
        what,
        Errno::ENODEV,
        Some("it disappeared at once".to_owned()),
    )
}
