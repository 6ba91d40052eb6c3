//! The floor: what an attachment takes without any plugin. The same kernel operations as ours, one
//! after the other in a process that runs already, and the same four DHCP messages by a socket.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, bail};
use lab::dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use lab::dhcproto::{Decodable, Decoder, Encodable};
use lab::{Lan, Node, Result};
use linknet::{
    Link, Mac, Netlink, Netns, NewAddress, NewMacvlan, PacketSocket, Received, Route, announce,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long to wait for an answer of the server, which answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Creates and removes an interface. Returns the time that each took.
pub(crate) fn macvlan(host: &Node, container: &Node) -> Result<[Duration; 2]> {
    host.run(|| {
        let begun = Instant::now();
        attach(container)?.finish()?;
        let added = begun.elapsed();
        detach(container)?;
        Ok([added, begun.elapsed() - added])
    })?
}

/// The same with an address that is leased from the LAN's server. The third time is what the ADD
/// has waited for the server's two answers.
pub(crate) fn both(host: &Node, container: &Node) -> Result<[Duration; 3]> {
    host.run(|| {
        let begun = Instant::now();
        let attached = attach(container)?;
        let lease = lease(&attached)?;
        attached.configure(&lease)?;
        attached.finish()?;
        let added = begun.elapsed();
        detach(container)?;
        Ok([added, begun.elapsed() - added, lease.waited])
    })?
}

/// An interface that was created.
struct Attached {
    netns: Netns,
    inside: Netlink,
    link: Link,
}

/// From the calling thread's namespace, as a plugin does.
fn attach(container: &Node) -> Result<Attached> {
    let netns = Netns::open(container.path())?;
    let (outside, inside) = (Netlink::open()?, Netlink::open_in(&netns)?);
    let parent = outside.link(Lan::MASTER)?.context("a parent")?;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new("eth0", parent.index)
    };
    let link = outside.add_macvlan(&new, &netns, &inside)?;
    Ok(Attached {
        netns,
        inside,
        link,
    })
}

impl Attached {
    fn configure(&self, lease: &Lease) -> Result {
        let net = ipnet::Ipv4Net::with_netmask(lease.address, lease.mask)?;
        self.inside
            .add_address(self.link.index, &NewAddress::new(net))?;
        let everywhere = ipnet::Ipv4Net::default();
        let default = Route::new(everywhere, self.link.index).via(lease.router);
        self.inside.add_route(&default)?;
        Ok(announce(&self.netns, &self.inside, self.link.index)?)
    }

    fn finish(&self) -> Result {
        let index = self.link.index;
        Ok(self.inside.set_alias_and_group(index, "floor", 0)?)
    }
}

fn detach(container: &Node) -> Result {
    let netns = Netns::open(container.path())?;
    let inside = Netlink::open_in(&netns)?;
    let link = inside.link("eth0")?.context("an interface")?;
    Ok(inside.delete_link_nowait(&netns, link.index)?)
}

/// What the server has granted.
struct Lease {
    address: Ipv4Addr,
    mask: Ipv4Addr,
    router: Ipv4Addr,
    waited: Duration,
    /// Closing a packet socket takes an RCU grace period, which nobody need wait for.
    _socket: PacketSocket,
}

/// DISCOVER, OFFER, REQUEST, ACK.
fn lease(attached: &Attached) -> Result<Lease> {
    let index = attached.link.index;
    let socket = attached.netns.run(|| PacketSocket::open(index, 68))??;
    let mut discover = Message::default();
    discover
        .set_opcode(Opcode::BootRequest)
        .set_xid(index)
        .set_flags(Flags::default())
        .set_chaddr(&socket.mac().octets());
    let mut request = discover.clone();
    let requested = [
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::ServerIdentifier,
    ];
    for (message, kind) in [
        (&mut discover, MessageType::Discover),
        (&mut request, MessageType::Request),
    ] {
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ParameterRequestList(requested.to_vec()));
    }

    let (offer, first) = exchange(&socket, &discover, MessageType::Offer)?;
    let address = offer.yiaddr();
    let Some(&DhcpOption::ServerIdentifier(server)) =
        offer.opts().get(OptionCode::ServerIdentifier)
    else {
        bail!("an offer names its server");
    };
    let options = request.opts_mut();
    options.insert(DhcpOption::RequestedIpAddress(address));
    options.insert(DhcpOption::ServerIdentifier(server));
    let (ack, second) = exchange(&socket, &request, MessageType::Ack)?;
    let (Some(&DhcpOption::SubnetMask(mask)), Some(DhcpOption::Router(routers))) = (
        ack.opts().get(OptionCode::SubnetMask),
        ack.opts().get(OptionCode::Router),
    ) else {
        bail!("the server grants a mask and a router");
    };
    Ok(Lease {
        address,
        mask,
        router: *routers.first().context("a router")?,
        waited: first + second,
        _socket: socket,
    })
}

/// Sends a message, and returns the server's answer and how long it took.
fn exchange(
    socket: &PacketSocket,
    message: &Message,
    kind: MessageType,
) -> Result<(Message, Duration)> {
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let sent = Instant::now();
    socket.send(Mac::BROADCAST, from, to, &message.to_vec()?)?;
    let mut buffer = [0; 2048];
    let patience = PollTimeout::try_from(PATIENCE)?;
    loop {
        if poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            patience,
        )? == 0
        {
            bail!("the server does not answer");
        }
        if let Received::Datagram(datagram) = socket.recv(&mut buffer)? {
            let answer = Message::decode(&mut Decoder::new(datagram.payload))?;
            if answer.xid() == message.xid() && answer.opts().msg_type() == Some(kind) {
                return Ok((answer, sent.elapsed()));
            }
        }
    }
}
