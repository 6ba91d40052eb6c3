//! `clientId`: how a server knows the client.

use std::fs;

use cni::{Attachment, Error, Request, code};
use dhcp4::client_id;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::invalid;
use super::options::{self, Provide};
use crate::protocol::{ClientId, Hex};

/// The key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ClientIdKey {
    Container,
    Name,
    Mac,
    Duid,
    None,
    Text(String),
    Hex(Hex),
    FromArg(String),
}

/// What an identifier has at least: a type and one octet more (RFC 2132 §9.14).
const SHORTEST: usize = 2;
/// What fits an option.
const LONGEST: usize = 255;

/// Refuses what can be the identifier of no attachment.
pub(super) fn verify(key: Option<&ClientIdKey>, provide: &[Provide]) -> Result<(), Error> {
    if key.is_some() && provide.iter().any(Provide::is_client_id) {
        return Err(invalid(
            "clientId",
            "`provide` has option 61 too: one of them is enough",
        ));
    }
    let body = match key {
        Some(ClientIdKey::Text(text)) => [&[0], text.as_bytes()].concat(),
        Some(ClientIdKey::Hex(Hex(body))) => body.clone(),
        _ => return Ok(()),
    };
    match body.len() {
        SHORTEST..=LONGEST => Ok(()),
        length => Err(invalid(
            "clientId",
            format_args!(
                "it has {length} octets with its type, and {SHORTEST} to {LONGEST} are allowed"
            ),
        )),
    }
}

/// The identifier of this attachment. Without the key, and where the argument that it names is
/// missing, it is the Go plugin's, which `provide` may replace.
///
/// # Errors
/// 7, when what it is made of is not known.
pub(super) fn resolve(
    key: Option<&ClientIdKey>,
    provide: &[Provide],
    request: &Request,
) -> Result<ClientId, Error> {
    let attachment = request.attachment()?;
    let body = match key {
        Some(ClientIdKey::Mac) => return Ok(ClientId::Mac),
        Some(ClientIdKey::None) => return Ok(ClientId::None),
        Some(ClientIdKey::Name) => by_name(&stable_name(request)?),
        Some(ClientIdKey::Duid) => {
            let digest = Sha256::digest(stable_name(request)?);
            let iaid = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
            client_id::duid(iaid, &machine()?)
        }
        Some(ClientIdKey::Text(text)) => client_id::text(text),
        Some(ClientIdKey::Hex(Hex(body))) => body.clone(),
        Some(ClientIdKey::FromArg(name)) => {
            match request.args.get(name).filter(|text| !text.is_empty()) {
                Some(text) => client_id::text(text),
                None => by_container(attachment),
            }
        }
        Some(ClientIdKey::Container) => by_container(attachment),
        None => {
            options::client_id(provide, &request.args).unwrap_or_else(|| by_container(attachment))
        }
    };
    Ok(ClientId::Sent(Hex(body)))
}

/// The Go plugin's identifier, octet by octet: servers know the client by it.
fn by_container(attachment: &Attachment) -> Vec<u8> {
    client_id::container(
        attachment.container_id(),
        attachment.network(),
        attachment.ifname(),
    )
}

/// A name of any length, or, where it is too long, its hash: two long ones must not become one by
/// being cut.
fn by_name(name: &str) -> Vec<u8> {
    if name.len() < LONGEST {
        return client_id::text(name);
    }
    [&[0][..], &Sha256::digest(name)].concat()
}

fn stable_name(request: &Request) -> Result<String, Error> {
    attachment::stable_name(request).ok_or_else(|| {
        invalid("clientId", "the runtime tells no name of the container (K8S_POD_NAME in CNI_ARGS)").details(
            "Podman and Kubernetes do; elsewhere give an identifier that stays: {\"text\": …} or {\"fromArg\": …}",
        )
    })
}

/// The DUID of this machine: a UUID (RFC 6355) derived from machine-id(5), which itself must not be
/// shown.
fn machine() -> Result<Vec<u8>, Error> {
    const FILE: &str = "/etc/machine-id";
    let failed = |why: String| {
        Error::new(
            code::IO_FAILURE,
            format!("clientId \"duid\" needs {FILE}: {why}"),
        )
        .details("systemd-machine-id-setup makes it; \"name\" and \"mac\" need none")
    };
    let id = fs::read_to_string(FILE).map_err(|error| failed(error.to_string()))?;
    let id = id.trim();
    if id.len() != 32 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(failed("it holds no machine id".to_owned()));
    }
    Ok(client_id::duid_from_uuid(uuid_of(id)))
}

/// A UUID for us alone out of a machine id: nobody can tell the one from the other.
fn uuid_of(machine_id: &str) -> [u8; 16] {
    let digest = Sha256::digest(format!("leasehold dhcp client {machine_id}"));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80; // version 8, "made by whom it concerns" (RFC 9562 §5.8)
    uuid[8] = uuid[8] & 0x3f | 0x80; // the variant of that RFC
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart() {
        assert_eq!(by_name("shop/web-0/lan/eth0"), b"\0shop/web-0/lan/eth0");
        let [one, other] = ["1", "2"].map(|end| by_name(&("a".repeat(300) + end)));
        assert_ne!(one, other);
        assert!((SHORTEST..=LONGEST).contains(&one.len()));
        assert_eq!(by_name(&"a".repeat(254)).len(), LONGEST);
    }

    #[test]
    fn a_machine_has_a_uuid_of_its_own_that_stays() {
        let uuid = uuid_of("0123456789abcdef0123456789abcdef");
        assert_eq!(uuid, uuid_of("0123456789abcdef0123456789abcdef"));
        assert_ne!(uuid, uuid_of("0123456789abcdef0123456789abcdee"));
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 0b10));
    }
}
