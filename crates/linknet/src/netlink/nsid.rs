//! Namespaces as other namespaces number them.

use std::os::fd::{AsFd, AsRawFd};

use libc::RTM_GETNSID;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Netlink;
use crate::{Netns, Result};

impl Netlink {
    /// The number by which this socket's namespace knows another, as in
    /// [`Link::parent_netnsid`](crate::Link). `None` if it has had no reason to know it.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn nsid(&self, netns: &Netns) -> Result<Option<i32>> {
        let mut message = NsidMessage::default();
        message
            .attributes
            .push(NsidAttribute::Fd(netns.as_fd().as_raw_fd().cast_unsigned()));
        let found: Option<NsidMessage> = self.get(
            &|| "look up a network namespace".to_owned(),
            RTM_GETNSID,
            &message,
        )?;
        // What is not known is told as -1.
        let number = found
            .iter()
            .flat_map(|found| &found.attributes)
            .find_map(|attribute| match attribute {
                NsidAttribute::Id(id) => Some(*id),
                _ => None,
            });
        Ok(number.filter(|id| *id >= 0))
    }
}
