//! Why a container may not reach a DHCP server, as far as the kernel of its host shows it.

use std::fs;
use std::net::Ipv4Addr;

/// What the daemon's own netns, which is usually the host's, shows about the LAN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clues {
    /// Whether a process has the port of DHCP servers.
    pub(super) server_on_host: bool,
    /// A neighbour that the host itself reaches through the parent.
    pub(super) neighbour: Option<Ipv4Addr>,
}

impl Clues {
    /// Looks for clues about the LAN of this parent.
    pub(super) fn find(parent: &str) -> Clues {
        // A file that cannot be read contains no clue.
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Clues {
            server_on_host: has_server_port(&read("/proc/self/net/udp")),
            neighbour: neighbour(&read("/proc/self/net/arp"), parent),
        }
    }
}

/// Whether a socket in proc(5)'s `net/udp` is bound to port 67. Its second column is the local
/// address and port, in hexadecimal.
fn has_server_port(sockets: &str) -> bool {
    let mut locals = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    locals.any(|local| local.ends_with(":0043"))
}

/// The first neighbour in proc(5)'s `net/arp` whose MAC is known on this link.
fn neighbour(table: &str, link: &str) -> Option<Ipv4Addr> {
    const COMPLETE: u32 = 0x2; // ATF_COM of arp(7)
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [address, _, flags, .., device] = columns.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let is_known = flags & COMPLETE != 0 && *device == link;
        address.parse().ok().filter(|_| is_known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_the_servers_port_is_found() {
        const HEADER: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr\n";
        let with = |local: &str| format!("{HEADER}  12: {local} 00000000:0000 07 0:0 00:0 0 0 1\n");
        assert!(has_server_port(&with("00000000:0043")));
        assert!(has_server_port(&with("0100007F:0043")));
        assert!(!has_server_port(&with("00000000:0044")));
        assert!(!has_server_port(HEADER));
    }

    #[test]
    fn a_neighbour_counts_on_its_link_and_if_its_mac_is_known() {
        const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        eth1
10.0.0.1         0x1         0x2         52:54:00:12:35:02     *        eth1
10.1.0.1         0x1         0x6         52:54:00:12:35:03     *        eth2
";
        let found = |link| neighbour(TABLE, link).map(|address| address.to_string());
        assert_eq!(found("eth1").as_deref(), Some("10.0.0.1"));
        assert_eq!(found("eth2").as_deref(), Some("10.1.0.1"));
        assert_eq!(found("eth3"), None);
    }
}
