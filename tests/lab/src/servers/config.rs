use std::{net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use ipnet::Ipv4Net;

/// What a server gives, in no server's language.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// The lease time.
    pub lease_time: Duration,
    /// T1, if the server is to send it.
    pub t1: Option<Duration>,
    /// T2, if the server is to send it.
    pub t2: Option<Duration>,
    /// Addresses that are kept for certain clients.
    pub reservations: Vec<Reservation>,
    /// What a lease says besides its times, router and DNS server.
    pub options: Options,
    /// Whether a DISCOVER that allows it is answered with an ACK (RFC 4039).
    pub rapid_commit: bool,
    /// More, in the server's own language: an argument of dnsmasq, a JSON object merged into Kea's
    /// subnet, a line of `dhcpd.conf` in the subnet, a line of `udhcpd.conf`.
    pub extra: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            pool: Ipv4Addr::new(10, 99, 0, 100)..=Ipv4Addr::new(10, 99, 0, 199),
            lease_time: Duration::from_secs(120),
            t1: None,
            t2: None,
            reservations: Vec::new(),
            options: Options::default(),
            rapid_commit: false,
            extra: Vec::new(),
        }
    }
}

/// An address that is kept for one client.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Who gets it.
    pub client: Client,
    /// The address.
    pub address: Ipv4Addr,
}

/// How a server recognizes a client.
#[derive(Clone, Debug)]
pub enum Client {
    /// By its hardware address, as `02:00:00:00:00:51`.
    Mac(&'static str),
    /// By its client identifier (option 61), written likewise: `00:64:62`.
    Id(&'static str),
}

/// Options that a server sends if they are set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The domain name (option 15).
    pub domain: Option<&'static str>,
    /// The search list (option 119).
    pub search: Vec<&'static str>,
    /// The MTU (option 26).
    pub mtu: Option<u16>,
    /// Classless static routes (option 121), each a destination and a gateway.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
}

impl Options {
    /// The value of option 121 (RFC 3442): for each route the prefix length, as many octets of the
    /// destination as matter, and the gateway.
    pub(super) fn encoded_routes(&self) -> Vec<u8> {
        let encode = |(destination, gateway): &(Ipv4Net, Ipv4Addr)| {
            let length = destination.prefix_len();
            let significant = usize::from(length.div_ceil(8));
            let destination = destination.network().octets();
            [
                &[length],
                &destination[..significant],
                &gateway.octets()[..],
            ]
            .concat()
        };
        self.routes.iter().flat_map(encode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_encoded_with_the_significant_octets_of_its_destination() {
        let gateway = Ipv4Addr::new(10, 99, 0, 9);
        let options = Options {
            routes: vec![
                ("192.168.7.0/24".parse().unwrap(), gateway),
                (Ipv4Net::default(), gateway),
            ],
            ..Options::default()
        };
        assert_eq!(
            options.encoded_routes(),
            [24, 192, 168, 7, 10, 99, 0, 9, 0, 10, 99, 0, 9]
        );
    }
}
