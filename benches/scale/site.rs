//! The network of the benchmark: one host, and two cables from it to the LAN, each with a DHCP server
//! of its own. The crowd is on one of them, and the containers whose ADD is timed are on the other,
//! so that the kernel delivers no broadcast of theirs to thousands of interfaces.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::dhcp_server::Settings;
use lab::{DhcpServer, Lan, Result};

use ipnet::Ipv4Net;

/// The version of every configuration: the newest that Debian's Go plugins know.
pub(crate) const CONFIG_VERSION: &str = "1.0.0";

/// The crowd's parent on the host.
pub(crate) const PARENT: &str = "eth2";

/// The other end of the crowd's cable.
const SERVER_LINK: &str = "crowd";

/// The address of the crowd's server, and its network, in which there is room for a million leases.
const SERVER: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 1), 12);

/// A lease time in which nothing is renewed while something else is measured.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The host, and the servers on its LAN.
pub(crate) struct Site {
    pub(crate) lan: Lan,
    /// Serves the crowd.
    pub(crate) server: DhcpServer,
    /// Serves the containers whose ADD is timed.
    _visitors_server: DhcpServer,
}

impl Site {
    pub(crate) fn new() -> Result<Site> {
        let lan = Lan::new()?;
        lan.host.add_veth(PARENT, (&lan.lan, SERVER_LINK))?;
        lan.host.set_up(PARENT)?;
        lan.lan.set_up(SERVER_LINK)?;
        lan.lan.add_address(SERVER_LINK, SERVER.into())?;
        let first = Ipv4Addr::from_bits(SERVER.addr().to_bits() + 9);
        let settings = Settings {
            address: SERVER.addr(),
            pool: first..=Ipv4Addr::from_bits(SERVER.broadcast().to_bits() - 1),
            prefix_len: SERVER.prefix_len(),
            lease_time: Some(LONG),
            ..Settings::default()
        };
        let server = DhcpServer::start_on(&lan.lan, SERVER_LINK, settings)?;
        let visitors = Settings {
            lease_time: None,
            ..Settings::default()
        };
        let visitors_server = DhcpServer::start(&lan.lan, visitors)?;
        Ok(Site {
            lan,
            server,
            _visitors_server: visitors_server,
        })
    }
}
