//! Documents with a descriptor beside their first octets (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors beside a document.
const MAX_DESCRIPTORS: usize = 4;

/// Sends the beginning of a document, with the descriptors beside it, and returns how many octets were
/// sent. Of more than [`MAX_DESCRIPTORS`], the last are sent.
pub(crate) fn send(
    stream: impl AsFd,
    document: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let first = descriptors.len().saturating_sub(MAX_DESCRIPTORS);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors[first..]));
    }
    let document = [IoSlice::new(document)];
    Ok(sendmsg(
        stream,
        &document,
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives octets, and keeps the last descriptor beside them; others are closed.
pub(crate) fn receive(
    stream: impl AsFd,
    buffer: &mut [u8],
    descriptor: &mut Option<OwnedFd>,
) -> io::Result<usize> {
    let (octets, mut descriptors) = receive_all(stream, buffer)?;
    *descriptor = descriptors.pop().or(descriptor.take());
    Ok(octets)
}

/// Receives octets, and the descriptors beside them.
pub(crate) fn receive_all(
    stream: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(buffer)];
    let message = recvmsg(
        stream,
        &mut buffers,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut all = Vec::new();
    for control in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = control {
            all.extend(descriptors);
        }
    }
    Ok((message.bytes, all))
}
