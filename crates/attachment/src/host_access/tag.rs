//! How a host route shows which attachment it belongs to.

use std::fmt;

use cni::Attachment;
use sha2::{Digest, Sha256};

/// The metric of an attachment's host routes. It is the only field of a route that can hold a
/// number of our choice, and the kernel uses it to tell apart routes to the same destination.
///
/// The upper ten bits are the network's, the others the container's and its interface's. Two
/// attachments can have the same tag by chance: in a network of a thousand containers about once in
/// eight times, and it only matters if both end on the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentTag(pub(super) u32);

/// How many bits are the container's and its interface's.
const ATTACHMENT_BITS: u32 = 22;

impl AttachmentTag {
    /// The tag of an attachment. It must never change between versions: routes outlive the program
    /// that made them.
    pub fn new(attachment: &Attachment) -> AttachmentTag {
        let parts = [
            attachment.network(),
            attachment.container_id(),
            attachment.ifname(),
        ];
        let attachment_bits = hash(&parts) & ((1 << ATTACHMENT_BITS) - 1);
        // IPv6 would turn a metric of 0 into 1024.
        let network_bits = network_bits(attachment.network()) << ATTACHMENT_BITS;
        AttachmentTag(network_bits | attachment_bits.max(1))
    }

    /// Whether the tag is that of an attachment to this network.
    pub fn is_of(self, network: &str) -> bool {
        self.0 >> ATTACHMENT_BITS == network_bits(network)
    }
}

impl fmt::Display for AttachmentTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn network_bits(network: &str) -> u32 {
    hash(&[network]) >> ATTACHMENT_BITS
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

    fn tag(network: &str, container_id: &str, ifname: &str) -> AttachmentTag {
        AttachmentTag::new(&Attachment::new(container_id, network, ifname).unwrap())
    }

    #[test]
    fn a_tag_never_changes() {
        // Routes that another version has made are found by it.
        assert_eq!(tag("lan", "c1", "eth0").to_string(), "3143550227");
    }

    #[test]
    fn a_tag_shows_its_network_and_its_attachment() {
        let eth0 = tag("lan", "c1", "eth0");
        assert!(eth0.is_of("lan") && !eth0.is_of("wan"));
        for other in [
            tag("wan", "c1", "eth0"),
            tag("lan", "c2", "eth0"),
            tag("lan", "c1", "eth1"),
        ] {
            assert_ne!(eth0, other);
        }
    }
}
