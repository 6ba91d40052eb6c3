//! CNI's documents as netavark's: the status block of a container, and errors.

use std::io::{self, Write};
use std::net::IpAddr;

use cni::{CniResult, Error, Version, code, printable};
use serde_json::{Map, Value, json};

/// Writes each document of the plugin's as netavark's. It gets each with a single write, and passes
/// it on with a single write, so that an ADD whose answer is not read can be undone.
pub(super) struct Answer<W> {
    stdout: W,
}

impl<W: Write> Answer<W> {
    pub(super) fn to(stdout: W) -> Answer<W> {
        Answer { stdout }
    }
}

impl<W: Write> Write for Answer<W> {
    fn write(&mut self, document: &[u8]) -> io::Result<usize> {
        let answer = match read(document) {
            Ok(result) => status_block(&result),
            Err(error) => error_document(&error),
        };
        write(&mut self.stdout, &answer)?;
        Ok(document.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Writes a document on a line of its own.
///
/// # Errors
/// If nobody reads it.
pub(super) fn write(stdout: &mut impl Write, document: &Value) -> io::Result<()> {
    stdout.write_all(format!("{document}\n").as_bytes())?;
    stdout.flush()
}

/// The plugin's result, or its error.
///
/// # Errors
/// The plugin's own, or 6 for what is neither.
pub(super) fn read(document: &[u8]) -> Result<CniResult, Error> {
    let unreadable = |error: serde_json::Error| {
        Error::new(code::DECODING_FAILURE, format!("invalid answer: {error}"))
    };
    let document: Value = serde_json::from_slice(document).map_err(unreadable)?;
    match document.as_object().and_then(Error::from_object) {
        Some(error) => Err(error),
        None => CniResult::from_value(document, Version::LATEST),
    }
}

/// The longest text of an error, in octets. It may repeat what is wrong, and Podman reads the answer
/// to `create` only when the plugin has ended, from a pipe that would be full.
const MAX_ERROR: usize = 4096;

/// netavark's document for an error: Podman 5 refuses any other key in it.
pub(super) fn error_document(error: &Error) -> Value {
    let text = error.to_string();
    let mut text = printable(&text).into_owned();
    if text.len() > MAX_ERROR {
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        text.push('…');
    }
    json!({ "error": text })
}

/// What Podman shows of the container, and puts into its /etc/hosts and /etc/resolv.conf.
fn status_block(result: &CniResult) -> Value {
    let interfaces = result.interfaces.iter().enumerate();
    let interfaces: Map<String, Value> = interfaces
        .map(|(index, interface)| {
            let ips = result.ips.iter().filter(|ip| ip.interface == Some(index));
            let subnets = ips.map(|ip| {
                let mut subnet = json!({ "ipnet": ip.address });
                if let Some(gateway) = ip.gateway {
                    subnet["gateway"] = json!(gateway);
                }
                subnet
            });
            let subnets: Vec<Value> = subnets.collect();
            let block = json!({ "mac_address": interface.mac, "subnets": subnets });
            (interface.name.clone(), block)
        })
        .collect();
    let dns = &result.dns;
    let servers = dns.nameservers.iter();
    let servers: Vec<IpAddr> = servers.filter_map(|server| server.parse().ok()).collect();
    let domain = Some(dns.domain.clone()).filter(|domain| !domain.is_empty());
    let search = match dns.search.is_empty() {
        true => domain.into_iter().collect(),
        false => dns.search.clone(),
    };
    json!({
        "dns_search_domains": search,
        "dns_server_ips": servers,
        "interfaces": interfaces,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_fits_a_pipe() {
        let error = Error::new(7, format!("mode: {}", "ä".repeat(70_000)));
        let document = error_document(&error);
        let text = document["error"].as_str().unwrap();
        assert!(text.len() < 5000 && text.starts_with("mode: ä") && text.ends_with('…'));
    }

    /// What netavark reads of what the plugin writes.
    fn answer(document: &Value) -> Value {
        let mut stdout = Vec::new();
        let mut answer = Answer::to(&mut stdout);
        answer.write_all(document.to_string().as_bytes()).unwrap();
        assert_eq!(stdout.iter().filter(|octet| **octet == b'\n').count(), 1);
        serde_json::from_slice(&stdout).unwrap()
    }

    #[test]
    fn a_result_becomes_a_status_block() {
        let result = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "eth0", "mac": "02:11:22:33:44:55", "sandbox": "/run/netns/c1" }],
            "ips": [
                { "address": "10.99.0.7/24", "gateway": "10.99.0.1", "interface": 0 },
                { "address": "fd99::7/64", "interface": 0 },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dns": { "nameservers": ["10.99.0.1", "resolver"], "domain": "lan" },
        });
        assert_eq!(
            answer(&result),
            json!({
                "dns_search_domains": ["lan"],
                "dns_server_ips": ["10.99.0.1"],
                "interfaces": { "eth0": {
                    "mac_address": "02:11:22:33:44:55",
                    "subnets": [
                        { "ipnet": "10.99.0.7/24", "gateway": "10.99.0.1" },
                        { "ipnet": "fd99::7/64" },
                    ],
                } },
            })
        );
        let searched = json!({
            "cniVersion": "1.1.0",
            "dns": { "domain": "lan", "search": ["a.lan", "b.lan"] },
        });
        let domains = &answer(&searched)["dns_search_domains"];
        assert_eq!(*domains, json!(["a.lan", "b.lan"]));
    }

    #[test]
    fn an_error_has_one_key_and_one_line() {
        let error = json!({
            "cniVersion": "1.1.0", "code": 7, "msg": "master \"eth9\" does not exist",
            "details": "devices that exist: eth1\n",
        });
        let text = r#"master "eth9" does not exist: devices that exist: eth1\n"#;
        assert_eq!(answer(&error), json!({ "error": text }));
        let neither = answer(&json!(7));
        assert!(neither["error"].is_string(), "{neither}");
    }
}
