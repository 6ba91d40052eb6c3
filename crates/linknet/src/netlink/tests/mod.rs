//! What is sent to the kernel, request by request.
//!
//! A user-space netlink socket (`NETLINK_USERSOCK`) stands in for the kernel: it records the
//! request and refuses it, so that no test needs a privilege. Expected messages are spelled out
//! attribute by attribute, without the builders that the code uses. The order of attributes
//! does not matter.

mod addresses;
mod answers;
mod links;
mod routes;
mod rules;

use std::net::IpAddr;
use std::thread;

use ipnet::IpNet;
use libc::{
    RTM_DELADDR, RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_GETNSID, RTM_NEWADDR, RTM_NEWLINK,
    RTM_SETLINK,
};
use rtnetlink::packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use rtnetlink::sys::protocols::NETLINK_USERSOCK;
use rtnetlink::sys::{Socket, SocketAddr};

use super::*;
use crate::error::Result;
use crate::mac::Mac;
use crate::netlink::nexthop::RTM_GETNEXTHOP;
use crate::netns::Netns;

const LINK: u32 = 7;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x11]);

const SET: u16 = NLM_F_REQUEST | NLM_F_ACK;
const CREATE: u16 = SET | NLM_F_CREATE | NLM_F_EXCL;
const PREPEND: u16 = SET | NLM_F_CREATE;
const REPLACE: u16 = SET | NLM_F_CREATE | NLM_F_REPLACE;
const GET: u16 = NLM_F_REQUEST | NLM_F_ACK;
const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// A request, taken apart so that two can be compared whatever the order of their attributes.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    kind: u16,
    flags: u16,
    /// The fixed part of the message, such as `struct ifinfomsg`.
    header: Vec<u8>,
    /// The attributes: type and value, sorted.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let (header, attributes) = body.split_at(match kind {
            RTM_NEWLINK | RTM_SETLINK | RTM_GETLINK | RTM_DELLINK => 16,
            RTM_NEWADDR | RTM_GETADDR | RTM_DELADDR | RTM_GETNEXTHOP => 8,
            RTM_GETNSID => 4,
            _ => 12,
        });
        let mut attributes: Vec<_> = NlasIterator::new(attributes)
            .map(|attribute| attribute.expect("whole attributes"))
            .map(|attribute| (attribute.kind(), attribute.value().to_vec()))
            .collect();
        attributes.sort();
        Request {
            kind,
            flags,
            header: header.to_vec(),
            attributes,
        }
    }
}

/// The request that asks the kernel for `message`.
fn request(kind: u16, flags: u16, message: &impl Emitable) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Request::new(kind, flags, &body)
}

/// The first request that `operation` sends.
fn sent<T: Send>(operation: impl FnOnce(&Netlink) -> Result<T>) -> Request {
    let denied = refusal(libc::EPERM);
    let (outcome, requests) = exchanged(&[&[(NLMSG_ERROR, &denied)]], operation);
    assert!(outcome.is_err_and(|error| error.is_denied()));
    requests.into_iter().next().expect("a request")
}

/// The payload of an `NLMSG_ERROR`: a refusal, or with 0 an acknowledgement.
fn refusal(errno: i32) -> Vec<u8> {
    [&(-errno).to_ne_bytes()[..], &[0; 16]].concat()
}

/// A message of an answer: its type and payload.
type Message<'a> = (u16, &'a [u8]);

/// What `operation` makes of an answer that consists of these messages.
fn answered<T: Send>(
    messages: &[Message<'_>],
    operation: impl FnOnce(&Netlink) -> Result<T>,
) -> Result<T> {
    answered_in_turn(&[messages], operation)
}

/// What `operation` makes of these answers to its requests.
fn answered_in_turn<T: Send>(
    answers: &[&[Message<'_>]],
    operation: impl FnOnce(&Netlink) -> Result<T>,
) -> Result<T> {
    exchanged(answers, operation).0
}

/// What `operation` makes of these answers to its requests, and those requests that were answered.
fn exchanged<T: Send>(
    answers: &[&[Message<'_>]],
    operation: impl FnOnce(&Netlink) -> Result<T>,
) -> (Result<T>, Vec<Request>) {
    let mut kernel = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    let address = kernel.bind_auto().expect("a port");
    let socket = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    socket.connect(&address).expect("connected");
    let netlink = Netlink::over(socket);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&kernel, answers));
        let outcome = operation(&netlink);
        let end = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
        end.send_to(END, &address, 0).expect("sent");
        (outcome, answering.join().expect("requests"))
    })
}

/// What is sent to the stand-in for the kernel after the last request.
const END: &[u8] = b"end";

/// The payload of the end of a list that changed while the kernel made it.
const CHANGED: &[u8] = b"\0\0\0\0changed";

/// Answers requests, and returns them.
fn answer(kernel: &Socket, answers: &[&[Message<'_>]]) -> Vec<Request> {
    let mut requests = Vec::new();
    for messages in answers {
        let (datagram, client) = kernel.recv_from_full().expect("a request");
        if datagram == END {
            break;
        }
        let request = NetlinkBuffer::new_checked(&datagram[..]).expect("a whole message");
        let (kind, flags) = (request.message_type(), request.flags());
        requests.push(Request::new(kind, flags, request.payload()));
        let mut answer = Vec::new();
        for (kind, payload) in *messages {
            answer.extend((16 + payload.len() as u32).to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            let flags = if *payload == CHANGED {
                NLM_F_DUMP_INTR
            } else {
                0
            };
            answer.extend(flags.to_ne_bytes());
            answer.extend(request.sequence_number().to_ne_bytes());
            answer.extend([0; 4]);
            answer.extend(*payload);
        }
        let client = SocketAddr::new(client.port_number(), 0);
        kernel.send_to(&answer, &client, 0).expect("answered");
    }
    requests
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn here() -> Netns {
    Netns::current().expect("/proc")
}
