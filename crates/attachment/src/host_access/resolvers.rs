//! The host's name servers.

use std::fs;
use std::io;
use std::net::IpAddr;

use linknet::{Error, Result};

/// Where they are configured. The second file has those that systemd-resolved asks, where the first
/// names only systemd-resolved itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The name servers that the host's resolver or systemd-resolved asks.
///
/// # Errors
/// If a file exists but cannot be read.
pub(super) fn read() -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for file in FILES {
        match fs::read(file) {
            Ok(content) => found.extend(parse(&String::from_utf8_lossy(&content))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("read {file}"), &error)),
        }
    }
    Ok(found)
}

/// The name servers that a resolv.conf(5) lists.
fn parse(content: &str) -> impl Iterator<Item = IpAddr> {
    content.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        address.and_then(|_| words.next()?.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_among_other_lines() {
        let content = "# nameserver 10.0.0.9\nsearch lan\nnameserver 10.0.0.53\n\
                       nameserver\tfd00::53\nnameserver fe80::1%eth0\nnameserver\noptions edns0";
        let expected: [IpAddr; 2] = ["10.0.0.53", "fd00::53"].map(|it| it.parse().unwrap());
        assert_eq!(parse(content).collect::<Vec<_>>(), expected);
    }
}
