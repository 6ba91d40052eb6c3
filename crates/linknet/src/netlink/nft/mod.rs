//! nf_tables: tables of packet filter rules, which are replaced, compared and deleted as a whole.
//!
//! This is what a program needs that owns its tables and leaves all others alone. There are no sets
//! and maps, and rules are not changed one by one: a table is replaced by another in one
//! transaction, which the kernel carries out whole or not at all. While it does, some packets may
//! meet a chain without rules, to which its policy applies.
//!
//! `nft list ruleset` shows such tables with their comments.

mod attributes;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;

pub use socket::Nft;

/// A table, with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which packets its chains can see.
    pub family: Family,
    /// Its name, which is unique in its family and namespace.
    pub name: String,
    /// What `nft list` shows beside it, at most 253 octets.
    pub comment: String,
    /// Its chains. A rule can go to any of them, wherever they stand.
    pub chains: Vec<Chain>,
}

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6, as the IP stack handles them (`NFPROTO_INET`).
    Inet,
    /// The frames of one link (`NFPROTO_NETDEV`).
    Netdev,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name, which is unique in its table.
    pub name: String,
    /// Where packets come into it; `None` if only rules lead to it.
    pub hook: Option<Hook>,
    /// Its rules. The first one that matches decides.
    pub rules: Vec<Rule>,
}

/// Where packets come into a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The place on the packets' way.
    pub point: HookPoint,
    /// The order among the chains of one place: smaller numbers come first.
    pub priority: i32,
    /// The fate of packets that no rule decides on.
    pub policy: Policy,
}

/// A place on the packets' way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookPoint {
    /// What is sent on a link, by the IP stack and by packet sockets. Family netdev, Linux 5.16.
    Egress {
        /// The link's name.
        device: String,
    },
    /// What was received, before it is routed. Family inet.
    Prerouting,
}

/// The fate of packets that no rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They are dropped.
    Drop,
    /// They pass.
    Accept,
}

/// A rule: the packets that it is for, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    matches: Vec<Match>,
    is_counted: bool,
    verdict: Verdict,
    comment: String,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is dropped.
    Drop,
    /// The rules of this chain decide; at its end, what would be next behind the jump that led
    /// here, or the policy of the hook.
    Goto(String),
    /// The rules of this chain decide; at its end, the next rule.
    Jump(String),
}

/// A condition on a packet: a field of it, and the value that the field must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    field: Field,
    mask: Option<Vec<u8>>,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Payload {
        base: Base,
        offset: u32,
        length: u32,
    },
    Meta {
        key: u32,
    },
    ConnectionState,
}

/// Where an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    LinkLayer = 0,
    Network = 1,
    Transport = 2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(Vec<u8>),
    IsNot(Vec<u8>),
    IsWithin(Vec<u8>, Vec<u8>),
    IsNotWithin(Vec<u8>, Vec<u8>),
}

impl Rule {
    /// A rule that applies to every packet. A comment has at most 253 octets; the rest is cut off.
    pub fn new(verdict: Verdict, comment: impl Into<String>) -> Rule {
        Rule {
            matches: Vec::new(),
            is_counted: false,
            verdict,
            comment: comment.into(),
        }
    }

    /// Applies only to packets that fulfil this condition too.
    #[must_use]
    pub fn when(mut self, condition: Match) -> Rule {
        self.matches.push(condition);
        self
    }

    /// Counts the packets that the rule applies to.
    #[must_use]
    pub fn counted(self) -> Rule {
        Rule {
            is_counted: true,
            ..self
        }
    }
}

impl Match {
    /// The octets at an offset in the frame, from its first octet on: the destination's MAC. In the
    /// egress hook it is the only kind of offset that the sender cannot shift: a packet socket
    /// chooses where the kernel believes that the IP header begins.
    pub fn frame(offset: u32, value: &[u8]) -> Match {
        Match::payload(Base::LinkLayer, offset, value)
    }

    /// The octets at an offset in the IP header.
    pub fn network(offset: u32, value: &[u8]) -> Match {
        Match::payload(Base::Network, offset, value)
    }

    /// The octets at an offset in the header of TCP, UDP or ICMP.
    pub fn transport(offset: u32, value: &[u8]) -> Match {
        Match::payload(Base::Transport, offset, value)
    }

    /// Packets that came in on the link with this index.
    pub fn incoming_link(index: u32) -> Match {
        const META_IIF: u32 = 4;
        Match::meta(META_IIF, &index.to_ne_bytes())
    }

    /// Packets of IPv4 (2) or IPv6 (10): `NFPROTO_…` of linux/netfilter.h.
    pub fn ip_version(family: u8) -> Match {
        const META_NFPROTO: u32 = 15;
        Match::meta(META_NFPROTO, &[family])
    }

    /// The protocol above IP (`IPPROTO_…`), behind all extension headers.
    pub fn protocol(number: u8) -> Match {
        const META_L4PROTO: u32 = 16;
        Match::meta(META_L4PROTO, &[number])
    }

    /// Packets with this mark, which a program sets on its socket (`SO_MARK` of socket(7)) if it has
    /// CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW, over the network namespace.
    pub fn mark(mark: u32) -> Match {
        const META_MARK: u32 = 3;
        Match::meta(META_MARK, &mark.to_ne_bytes())
    }

    /// Packets of connections that are established, and those that belong to one, such as ICMP
    /// errors. With it, the kernel tracks the connections of the namespace.
    pub fn known_connection() -> Match {
        /// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED` and `IP_CT_RELATED`.
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        Match {
            field: Field::ConnectionState,
            mask: Some(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
            test: Test::IsNot(vec![0; 4]),
        }
    }

    /// Any value from the given one to `last`, as big-endian numbers.
    #[must_use]
    pub fn up_to(self, last: &[u8]) -> Match {
        let test = match self.test {
            Test::Is(first) if first != last => Test::IsWithin(first, last.to_vec()),
            Test::IsNot(first) if first != last => Test::IsNotWithin(first, last.to_vec()),
            other => other,
        };
        Match { test, ..self }
    }

    /// Compares only the bits that are set in `mask`, which is as long as the value.
    #[must_use]
    pub fn masked(self, mask: &[u8]) -> Match {
        Match {
            mask: Some(mask.to_vec()),
            ..self
        }
    }

    /// The opposite: the field has another value. (A packet that ends before it has none, and does
    /// not match.)
    #[must_use]
    pub fn negated(self) -> Match {
        let test = match self.test {
            Test::Is(value) => Test::IsNot(value),
            Test::IsNot(value) => Test::Is(value),
            Test::IsWithin(first, last) => Test::IsNotWithin(first, last),
            Test::IsNotWithin(first, last) => Test::IsWithin(first, last),
        };
        Match { test, ..self }
    }

    fn payload(base: Base, offset: u32, value: &[u8]) -> Match {
        let length = value.len() as u32;
        Match {
            field: Field::Payload {
                base,
                offset,
                length,
            },
            mask: None,
            test: Test::Is(value.to_vec()),
        }
    }

    fn meta(key: u32, value: &[u8]) -> Match {
        Match {
            field: Field::Meta { key },
            mask: None,
            test: Test::Is(value.to_vec()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Netdev => "netdev",
        })
    }
}
