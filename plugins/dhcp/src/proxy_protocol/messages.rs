//! The messages.

use super::wire::{Fields, Malformed, put_entry, put_number, put_text};

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    #[default]
    V4,
    /// Anything else, of which this program has none.
    Other,
}

/// What netavark sends: the interface that it has made, and whose it is. Texts that are absent are
/// empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The interface's parent on the host, or the bridge; a Teardown may name none.
    pub host_iface: String,
    /// The interface's name in the container.
    pub container_iface: String,
    /// Its MAC address.
    pub container_mac_addr: String,
    /// The container's host name; netavark sends none with a Teardown.
    pub host_name: String,
    /// The version of IP.
    pub version: IpVersion,
    /// The path of the container's network namespace.
    pub ns_path: String,
    /// The container's ID. netavark sends it with a Setup, and before 1.14 not at all.
    pub container_id: String,
}

impl NetworkConfig {
    /// Reads the message. As Protocol Buffers demand, unknown fields are skipped, and of a field
    /// that is repeated the last value counts.
    ///
    /// # Errors
    /// If the octets are no such message.
    pub fn decode(message: &[u8]) -> Result<NetworkConfig, Malformed> {
        let mut config = NetworkConfig::default();
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next()? {
            let text = match field.number() {
                1 => &mut config.host_iface,
                2 => &mut config.container_iface,
                3 => &mut config.container_mac_addr,
                5 => &mut config.host_name,
                7 => &mut config.ns_path,
                8 => &mut config.container_id,
                4 => {
                    // A domain name, which netavark leaves empty.
                    field.text()?;
                    continue;
                }
                6 => {
                    // As an int32, of which Protocol Buffers read the lowest bits.
                    config.version = match field.number_value()? as u32 {
                        0 => IpVersion::V4,
                        _ => IpVersion::Other,
                    };
                    continue;
                }
                _ => continue,
            };
            *text = field.text()?.to_owned();
        }
        Ok(config)
    }
}

/// The answer to Setup and to Teardown. netavark reads the address, the mask, the first gateway, the
/// name servers and the domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// When the lease is renewed, in seconds.
    pub t1: u32,
    /// When other servers are asked too, in seconds.
    pub t2: u32,
    /// How long the lease lasts, in seconds.
    pub lease_time: u32,
    /// The MTU; 0 if the server sent none.
    pub mtu: u32,
    /// The domain in which the container looks names up.
    pub domain_name: String,
    /// The interface's MAC address.
    pub mac_address: String,
    /// The server's address (`siaddr`).
    pub siaddr: String,
    /// The leased address.
    pub yiaddr: String,
    /// The server's identifier.
    pub srv_id: String,
    /// The mask of the address's network.
    pub subnet_mask: String,
    /// The broadcast address.
    pub broadcast_addr: String,
    /// The name servers.
    pub dns_servers: Vec<String>,
    /// The default gateway, if there is one.
    pub gateways: Vec<String>,
}

impl Lease {
    /// Writes the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        let numbers = [
            (1, self.t1),
            (2, self.t2),
            (3, self.lease_time),
            (4, self.mtu),
        ];
        for (number, value) in numbers {
            put_number(&mut message, number, value);
        }
        let texts = [
            (5, &self.domain_name),
            (6, &self.mac_address),
            (11, &self.siaddr),
            (12, &self.yiaddr),
            (16, &self.srv_id),
            (17, &self.subnet_mask),
            (18, &self.broadcast_addr),
        ];
        for (number, text) in texts {
            put_text(&mut message, number, text);
        }
        for (number, texts) in [(19, &self.dns_servers), (20, &self.gateways)] {
            for text in texts {
                put_entry(&mut message, number, text);
            }
        }
        message
    }
}

/// The answer to Clean: it was successful.
#[derive(Debug, Clone, Copy)]
pub struct OperationResponse;

impl OperationResponse {
    /// Writes the message.
    pub fn encode(self) -> Vec<u8> {
        let mut message = Vec::new();
        put_number(&mut message, 1, 1);
        message
    }
}
