//! How a host route tells whose it is.

use std::fmt;

use sha2::{Digest, Sha256};

/// What stands for an attachment in the metric of its host routes: the only field that a route has
/// for a number of ours, and one that the kernel tells routes to the same destination apart by.
///
/// The upper ten bits are the network's, the others the container's and its interface's. Two may be
/// the same by chance: within a network of a thousand containers about one time in eight, and it
/// matters only if they end on the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub(crate) u32);

/// How many bits are the attachment's.
const BITS: u32 = 22;

impl Tag {
    /// The tag of the attachment of this interface of this container to this network: the same for
    /// ever, since routes outlive whoever made them.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Tag {
        let attachment = hash(&[network, container_id, ifname]) & ((1 << BITS) - 1);
        // A metric of 0 would be 1024 in IPv6.
        Tag(of_network(network) << BITS | attachment.max(1))
    }

    /// Whether it is of an attachment to this network.
    pub fn is_of(self, network: &str) -> bool {
        self.0 >> BITS == of_network(network)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn of_network(network: &str) -> u32 {
    hash(&[network]) >> BITS
}

fn hash(parts: &[&str]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update("leasehold host route");
    for part in parts {
        // No name has a slash in it.
        hasher.update("/");
        hasher.update(part);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_same_for_ever() {
        // Routes that another version has made are found by it: this must never change.
        assert_eq!(Tag::new("lan", "c1", "eth0").to_string(), "3143550227");
    }

    #[test]
    fn a_tag_tells_its_network_and_its_attachment() {
        let tag = Tag::new("lan", "c1", "eth0");
        assert!(tag.is_of("lan") && !tag.is_of("wan"));
        for other in [
            Tag::new("wan", "c1", "eth0"),
            Tag::new("lan", "c2", "eth0"),
            Tag::new("lan", "c1", "eth1"),
        ] {
            assert_ne!(tag, other);
        }
    }
}
