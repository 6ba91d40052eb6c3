//! The numbers that a network namespace gives to others.

use std::os::fd::{AsFd, AsRawFd};

use libc::RTM_GETNSID;
use rtnetlink::packet_core::Parseable;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::socket::Netlink;
use crate::error::Result;
use crate::netns::Netns;

impl Netlink {
    /// The number that this socket's namespace has given to another, as in
    /// [`Link::parent_netnsid`](crate::Link). `None` if it has not given it one, which it does when
    /// one of its links first refers to the other namespace.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn nsid(&self, netns: &Netns) -> Result<Option<i32>> {
        // By hand: rtnetlink asks for namespaces by name only.
        let mut message = NsidMessage::default();
        let fd = netns.as_fd().as_raw_fd().cast_unsigned();
        message.attributes = vec![NsidAttribute::Fd(fd)];
        let what = || "look up the number of a network namespace".to_owned();
        let found = self.get(&what, RTM_GETNSID, &message, NsidMessage::parse)?;
        let number = found
            .iter()
            .flat_map(|found| &found.attributes)
            .find_map(|attribute| match attribute {
                NsidAttribute::Id(id) => Some(*id),
                _ => None,
            });
        // -1 means that there is none.
        Ok(number.filter(|id| *id >= 0))
    }
}
