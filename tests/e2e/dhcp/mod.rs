//! The DHCP client: what it sends, how it applies answers, and how it copes with servers that
//! misbehave.

mod answer;
mod conflict;
mod faults;
mod identity;
mod independence;
mod link;
mod mac;
mod misbehaving;
mod on_change;
mod plugin_faults;
mod renewal;
mod unreachable;
mod unsent;
mod wire;

use std::net::Ipv4Addr;

use lab::anyhow::Context;
use lab::dhcp_server::Packet;
use lab::dhcproto::v4::{DhcpOption, OptionCode};
use lab::{Attachment, Node, Result, Test};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        identity::TESTS,
        independence::TESTS,
        answer::TESTS,
        faults::TESTS,
        conflict::TESTS,
        link::TESTS,
        mac::TESTS,
        misbehaving::TESTS,
        on_change::TESTS,
        plugin_faults::TESTS,
        unsent::TESTS,
        renewal::TESTS,
        unreachable::TESTS,
        wire::TESTS,
    ]
    .concat()
}

/// An attachment of which the runtime tells a name, as Podman does.
pub(crate) fn named(container: &Node, name: &str) -> Attachment {
    Attachment {
        args: format!("IgnoreUnknown=1;K8S_POD_NAME={name}"),
        ..Attachment::new(container)
    }
}

/// Sets the MTU of the container's `eth0`. DHCP's messages do not fit into one of 68.
pub(crate) fn set_mtu(container: &Node, mtu: u32) -> Result {
    let index = container.link("eth0")?.index;
    Ok(container.netlink()?.set_mtu(index, mtu)?)
}

/// The client identifier of a message (option 61).
fn client_id(packet: &Packet) -> Option<&[u8]> {
    match packet.option(OptionCode::ClientIdentifier) {
        Some(DhcpOption::ClientIdentifier(id)) => Some(id),
        _ => None,
    }
}

/// The address that a message asks for (option 50).
fn requested(packet: &Packet) -> Option<Ipv4Addr> {
    match packet.option(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    }
}

/// The codes of a message's parameter request list (option 55).
fn asked_for(packet: &Packet) -> Result<Vec<u8>> {
    match packet.option(OptionCode::ParameterRequestList) {
        Some(DhcpOption::ParameterRequestList(codes)) => {
            Ok(codes.iter().copied().map(u8::from).collect())
        }
        _ => None.context("a parameter request list"),
    }
}
