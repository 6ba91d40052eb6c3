//! ICMP echo over a raw socket: root over a network namespace may always have one, and no ping
//! program is needed.

use std::{
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
    IpSlice,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendmsg,
        socket,
    },
};

use crate::Result;

/// How long an answer is waited for before the request is sent again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// From the calling thread's namespace.
pub(crate) fn ping(to: IpAddr, within: Duration) -> Result<Duration> {
    let socket = match to {
        IpAddr::V4(_) => raw_socket(AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => raw_socket(AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket.context("open a raw ICMP socket")?;
    // All pings of a namespace share its raw sockets' answers; this descriptor's number tells them
    // apart well enough, since no two live sockets of a process have the same.
    let id = (std::process::id() << 6) as u16 ^ socket.as_raw_fd() as u16;
    let deadline = Instant::now() + within;
    let mut failed = None;
    for seq in 0u16.. {
        let echo = IcmpEchoHeader { id, seq };
        let sent = Instant::now();
        if let Err(errno) = send(&socket, to, echo) {
            failed = Some(errno); // no route, or no neighbour yet
        }
        let patience = deadline.min(sent + RETRY_INTERVAL);
        while wait_readable(&socket, patience)? {
            if is_reply(&socket, to, echo)? {
                return Ok(sent.elapsed());
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    match failed {
        Some(errno) => bail!("no answer within {within:?}; sending failed: {errno}"),
        None => bail!("no answer within {within:?}"),
    }
}

fn raw_socket(family: AddressFamily, protocol: SockProtocol) -> nix::Result<OwnedFd> {
    socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        protocol,
    )
}

fn send(socket: &OwnedFd, to: IpAddr, echo: IcmpEchoHeader) -> nix::Result<usize> {
    let request = match to {
        IpAddr::V4(_) => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[])
            .to_bytes()
            .as_slice()
            .to_vec(),
        // The kernel fills in the checksum, which covers addresses that only it knows yet.
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo))
            .to_bytes()
            .as_slice()
            .to_vec(),
    };
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&request)],
        &[],
        MsgFlags::empty(),
        Some(&address),
    )
}

fn wait_readable(socket: &OwnedFd, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout =
        PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
    match poll(
        &mut [PollFd::new(
            std::os::fd::AsFd::as_fd(socket),
            PollFlags::POLLIN,
        )],
        timeout,
    ) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => bail!("wait for an answer: {errno}"),
    }
}

fn is_reply(socket: &OwnedFd, from: IpAddr, echo: IcmpEchoHeader) -> Result<bool> {
    let mut buffer = [0; 2048];
    let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => length,
        Err(Errno::EAGAIN) => return Ok(false),
        Err(errno) => bail!("receive an answer: {errno}"),
    };
    let packet = &buffer[..length];
    Ok(match from {
        // IPv4 raw sockets receive the IP header too, IPv6 ones do not.
        IpAddr::V4(from) => IpSlice::from_slice(packet).is_ok_and(|ip| {
            ip.source_addr() == from
                && Icmpv4Slice::from_slice(ip.payload().payload)
                    .is_ok_and(|icmp| icmp.icmp_type() == Icmpv4Type::EchoReply(echo))
        }),
        IpAddr::V6(_) => Icmpv6Slice::from_slice(packet)
            .is_ok_and(|icmp| icmp.icmp_type() == Icmpv6Type::EchoReply(echo)),
    })
}
