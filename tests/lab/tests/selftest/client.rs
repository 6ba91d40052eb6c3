//! A DHCP client of few lines, to have something to say to a server: it asks for broadcast replies,
//! so a UDP socket will do.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use lab::{
    Lan, Node, Result,
    anyhow::{Context, ensure},
    deadline,
    dhcproto::{
        Decodable, Encodable,
        v4::{DhcpOption, Flags, HType, Message, MessageType, OptionCode},
    },
};
use nix::sys::socket::{setsockopt, sockopt};

pub(crate) struct Client {
    socket: UdpSocket,
    mac: [u8; 6],
    xid: u32,
}

impl Client {
    /// On the host's end of the cable.
    pub(crate) fn new(host: &Node) -> Result<Client> {
        let socket = host.run(|| UdpSocket::bind("0.0.0.0:68"))??;
        setsockopt(&socket, sockopt::BindToDevice, &Lan::MASTER.into())?;
        socket.set_broadcast(true)?;
        let mac = host
            .link(Lan::MASTER)?
            .mac
            .context("a veth has a hardware address")?;
        Ok(Client {
            socket,
            mac: mac.octets(),
            xid: 0x1ab0_0000,
        })
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    pub(crate) fn acquire(&mut self) -> Result<Message> {
        let offer = self.discover()?.context("no offer")?;
        ensure!(offer.opts().has_msg_type(MessageType::Offer), "{offer:?}");
        let ack = self.request(&offer)?.context("no answer to the request")?;
        ensure!(ack.opts().has_msg_type(MessageType::Ack), "{ack:?}");
        Ok(ack)
    }

    /// DISCOVER with a new transaction ID, and what is answered to it.
    pub(crate) fn discover(&mut self) -> Result<Option<Message>> {
        self.xid += 1;
        self.send(MessageType::Discover, Ipv4Addr::UNSPECIFIED, vec![])?;
        self.receive(deadline(Duration::from_secs(1)))
    }

    pub(crate) fn request(&self, offer: &Message) -> Result<Option<Message>> {
        let server = offer
            .opts()
            .get(OptionCode::ServerIdentifier)
            .context("an offer names its server")?;
        let address = DhcpOption::RequestedIpAddress(offer.yiaddr());
        self.send(
            MessageType::Request,
            Ipv4Addr::UNSPECIFIED,
            vec![server.clone(), address],
        )?;
        self.receive(deadline(Duration::from_secs(1)))
    }

    /// From the address that is given back, as servers want it.
    pub(crate) fn release(&self, ack: &Message, host: &Node) -> Result {
        let server = ack
            .opts()
            .get(OptionCode::ServerIdentifier)
            .context("an ACK names its server")?;
        host.add_address(
            Lan::MASTER,
            ipnet::Ipv4Net::new(ack.yiaddr(), Lan::NET.prefix_len())?.into(),
        )?;
        let message = self
            .message(MessageType::Release, ack.yiaddr(), vec![server.clone()])
            .to_vec()?;
        self.socket.send_to(&message, (Lan::ADDRESS, 67))?;
        Ok(())
    }

    /// Broadcasts a message, from no address.
    pub(crate) fn send(
        &self,
        kind: MessageType,
        ciaddr: Ipv4Addr,
        options: Vec<DhcpOption>,
    ) -> Result {
        let message = self.message(kind, ciaddr, options).to_vec()?;
        self.socket.send_to(&message, (Ipv4Addr::BROADCAST, 67))?;
        Ok(())
    }

    /// The next message, if one comes in time.
    pub(crate) fn receive(&self, within: Duration) -> Result<Option<Message>> {
        let mut buffer = [0; 1500];
        self.socket.set_read_timeout(Some(within))?;
        match self.socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(Message::from_bytes(&buffer[..length])?)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn xid(&self) -> u32 {
        self.xid
    }

    fn message(&self, kind: MessageType, ciaddr: Ipv4Addr, options: Vec<DhcpOption>) -> Message {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(
            self.xid,
            ciaddr,
            unspecified,
            unspecified,
            unspecified,
            &self.mac,
        );
        message
            .set_htype(HType::Eth)
            .set_flags(Flags::default().set_broadcast());
        let requested = vec![OptionCode::SubnetMask, OptionCode::Router];
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message
            .opts_mut()
            .insert(DhcpOption::ParameterRequestList(requested));
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }
}
