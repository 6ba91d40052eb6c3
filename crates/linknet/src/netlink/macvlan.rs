//! macvlans: what describes one, and the message that creates one.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;

use rtnetlink::packet_route::link::{
    InfoKind, InfoMacVlan, LinkMessage, MacVlanFlags, MacVlanMacAddressMode, MacVlanMode,
};
use rtnetlink::{LinkMacVlan, LinkMessageBuilder};

use crate::mac::Mac;
use crate::netns::Netns;

/// How the macvlans of one parent treat each other (linux/if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MacvlanMode {
    /// They reach each other directly, like ports of a bridge.
    #[default]
    Bridge,
    /// They never reach each other.
    Private,
    /// They reach each other through the switch outside, which must send frames back to the port
    /// that they came from (IEEE 802.1Qbg reflective relay, "hairpin mode").
    Vepa,
    /// The only macvlan on its parent, with the parent's MAC.
    Passthru,
    /// It receives frames from listed source addresses only.
    Source,
}

/// The properties of a link that is a macvlan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Macvlan {
    /// Its mode; `None` for a mode that this library does not know.
    pub mode: Option<MacvlanMode>,
    /// In mode passthru: it did not make its parent promiscuous (`MACVLAN_FLAG_NOPROMISC`).
    pub nopromisc: bool,
    /// In mode source: a frame from a listed address is not delivered by its destination as well
    /// (`MACVLAN_FLAG_NODST`).
    pub nodst: bool,
    /// In mode source: the addresses that it receives frames from.
    pub sources: Vec<Mac>,
    /// The length of the broadcast queue that it asked for (`bcqueuelen`).
    pub bc_queue_len: Option<u32>,
    /// The actual length of the parent's broadcast queue: the longest that any of its macvlans
    /// asked for.
    pub bc_queue_len_used: Option<u32>,
    /// Multicasts to at least this many receivers go through the broadcast queue (`bclim`); `None`
    /// if the kernel decides.
    pub bc_cutoff: Option<i32>,
}

/// A macvlan to be created with [`Netlink::add_macvlan`](crate::Netlink::add_macvlan).
#[derive(Debug, Clone)]
pub struct NewMacvlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The index of its parent, in the namespace of the socket that creates it.
    pub parent: u32,
    /// Its mode.
    pub mode: MacvlanMode,
    /// Its MAC; `None` for a random one.
    pub mac: Option<Mac>,
    /// Its MTU; `None` for its parent's.
    pub mtu: Option<u32>,
    /// See [`Macvlan::nopromisc`].
    pub nopromisc: bool,
    /// See [`Macvlan::sources`].
    pub sources: &'a [Mac],
    /// See [`Macvlan::bc_queue_len`].
    pub bc_queue_len: Option<u32>,
    /// See [`Macvlan::bc_cutoff`]. Kernels before 6.5 ignore it: read the link back to see whether
    /// it was applied.
    pub bc_cutoff: Option<i32>,
    /// Whether it is set up at once.
    pub up: bool,
    /// See [`Link::group`](crate::Link::group). The kernel applies it when it creates the link,
    /// unlike an alias, so it identifies the link even if its creator dies right after.
    pub group: u32,
}

impl<'a> NewMacvlan<'a> {
    /// A macvlan in bridge mode that is down, with the kernel's defaults for everything else.
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

    /// The request to create it in `netns`.
    pub(super) fn message(&self, name: &str, up: bool, netns: &Netns) -> LinkMessage {
        let netns = netns.as_fd().as_raw_fd();
        let mut link = LinkMacVlan::new(name, self.parent, mode_into(self.mode)).setns_by_fd(netns);
        if up {
            link = link.up();
        }
        if let Some(mac) = self.mac {
            link = link.address(mac.octets().to_vec());
        }
        if let Some(mtu) = self.mtu {
            link = link.mtu(mtu);
        }
        if self.group != 0 {
            link = link.link_group(self.group);
        }
        // The builder has no methods for a macvlan's properties, except for its mode.
        if self.nopromisc {
            link = link.append_info_data(InfoMacVlan::Flags(MacVlanFlags::NoPromisc));
        }
        if !self.sources.is_empty() {
            let sources = self
                .sources
                .iter()
                .map(|mac| InfoMacVlan::MacAddr(mac.octets()))
                .collect();
            link = link
                .append_info_data(InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set))
                .append_info_data(InfoMacVlan::MacAddrData(sources));
        }
        if let Some(length) = self.bc_queue_len {
            link = link.append_info_data(InfoMacVlan::BcQueueLen(length));
        }
        if let Some(cutoff) = self.bc_cutoff {
            link = link.append_info_data(InfoMacVlan::BcCutoff(cutoff));
        }
        link.build()
    }
}

/// A request for a macvlan of a mode that does not exist, on no parent.
pub(super) fn invalid_message() -> LinkMessage {
    LinkMessageBuilder::<LinkMacVlan>::new_with_info_kind(InfoKind::MacVlan)
        .mode(MacVlanMode::Other(0))
        .build()
}

impl Macvlan {
    pub(super) fn from_info(infos: impl Iterator<Item = InfoMacVlan>) -> Macvlan {
        let mut macvlan = Macvlan::default();
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

/// The text is none of the five modes.
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
