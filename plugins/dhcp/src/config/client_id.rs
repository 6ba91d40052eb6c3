//! `clientId`: how the server identifies the client.

use std::fs;

use cni::{Error, Request, code};
use dhcp4::client_id;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Source;
use super::options::{self, Provide};
use crate::protocol::{ClientId, Hex};

/// The key: where the body of option 61 comes from.
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

/// The shortest identifier: a type and one octet (RFC 2132 §9.14).
const MIN_LEN: usize = 2;
/// The longest option.
const MAX_LEN: usize = 255;

/// Refuses an identifier that is invalid for every attachment, or that is given twice. The sources
/// are those of the key and of `provide`.
pub(super) fn verify(
    (source, source_of_provide): (Source<'_>, Source<'_>),
    key: Option<&ClientIdKey>,
    provide: &[Provide],
) -> Result<(), Error> {
    if key.is_some() && provide.iter().any(Provide::is_client_id) {
        let provide = source_of_provide.name("provide");
        let problem = format_args!("{provide} has option 61 too; use one of them");
        return Err(source.invalid("clientId", problem));
    }
    let body = match key {
        Some(ClientIdKey::Text(text)) => [&[0], text.as_bytes()].concat(),
        Some(ClientIdKey::Hex(Hex(body))) => body.clone(),
        _ => return Ok(()),
    };
    match body.len() {
        MIN_LEN..=MAX_LEN => Ok(()),
        length => Err(source.invalid(
            "clientId",
            format_args!(
                "it has {length} octets with its type; {MIN_LEN} to {MAX_LEN} are allowed"
            ),
        )),
    }
}

/// The identifier of the request's attachment. Without the key, or if the runtime passes no
/// argument of the name in `fromArg`, it is the Go plugin's; without the key, `provide` may replace
/// that.
///
/// # Errors
/// `INVALID_NETWORK_CONFIG` (7) if the runtime does not name the container and the identifier is
/// derived from its name; `IO_FAILURE` (5) if the machine has no machine id.
pub(super) fn resolve(
    source: Source<'_>,
    key: Option<&ClientIdKey>,
    provide: &[Provide],
    request: &Request,
) -> Result<ClientId, Error> {
    let attachment = request.attachment()?;
    let stable_name = || stable_name(source, request);
    let body = match key {
        Some(ClientIdKey::Mac) => return Ok(ClientId::Mac),
        Some(ClientIdKey::None) => return Ok(ClientId::None),
        Some(ClientIdKey::Name) => from_name(&stable_name()?),
        Some(ClientIdKey::Duid) => {
            let digest = Sha256::digest(stable_name()?);
            let iaid = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
            client_id::duid(iaid, &machine_duid()?)
        }
        Some(ClientIdKey::Text(text)) => client_id::text(text),
        Some(ClientIdKey::Hex(Hex(body))) => body.clone(),
        Some(ClientIdKey::FromArg(name)) => {
            let body = request.user_arg(name)?.map(from_name);
            body.unwrap_or_else(|| ClientId::body_of(attachment))
        }
        Some(ClientIdKey::Container) => ClientId::body_of(attachment),
        None => {
            options::client_id(provide, request)?.unwrap_or_else(|| ClientId::body_of(attachment))
        }
    };
    Ok(ClientId::Sent(body.into()))
}

/// Whether another container, on this host or another, may have the same identifier: any but the
/// attachment's own and those that a MAC stands for.
pub(super) fn may_be_shared(id: &ClientId, request: &Request) -> Result<bool, Error> {
    Ok(match id {
        ClientId::Sent(_) => !id.is_own_of(request.attachment()?),
        ClientId::Mac | ClientId::None => false,
    })
}

/// A name, or its hash if it is too long: two long names must not become the same by truncation.
fn from_name(name: &str) -> Vec<u8> {
    if name.len() < MAX_LEN {
        return client_id::text(name);
    }
    [&[0][..], &Sha256::digest(name)].concat()
}

fn stable_name(source: Source<'_>, request: &Request) -> Result<String, Error> {
    attachment::stable_name(request).ok_or_else(|| {
        let problem = "the runtime does not name the container (K8S_POD_NAME in CNI_ARGS)";
        source
            .invalid("clientId", problem)
            .details("Podman and Kubernetes do; elsewhere use {\"text\": …} or {\"fromArg\": …}")
    })
}

/// The DUID of this machine: a UUID (RFC 6355) derived from machine-id(5), which itself is
/// confidential.
fn machine_duid() -> Result<Vec<u8>, Error> {
    const FILE: &str = "/etc/machine-id";
    let failed = |why: String| {
        Error::new(
            code::IO_FAILURE,
            format!("clientId \"duid\" needs {FILE}: {why}"),
        )
        .details("systemd-machine-id-setup creates it; \"name\" and \"mac\" work without it")
    };
    let content = fs::read_to_string(FILE).map_err(|error| failed(error.to_string()))?;
    match machine_id(&content) {
        Some(id) => Ok(client_id::duid_from_uuid(uuid_of(id))),
        None => Err(failed("it contains no machine id".to_owned())),
    }
}

/// The machine id in the file; `None` if it has none yet, for instance `uninitialized`.
fn machine_id(content: &str) -> Option<&str> {
    let id = content.trim();
    let is_valid = id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_valid.then_some(id)
}

/// An application-specific UUID, from which the machine id cannot be derived.
fn uuid_of(machine_id: &str) -> [u8; 16] {
    let digest = Sha256::digest(format!("leasehold dhcp client {machine_id}"));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80; // version 8, vendor-specific (RFC 9562 §5.8)
    uuid[8] = uuid[8] & 0x3f | 0x80; // the variant of RFC 9562
    uuid
}

#[cfg(test)]
mod tests {
    use cni::Attachment;

    use super::*;

    #[test]
    fn the_default_identifier_is_the_go_plugins_octet_for_octet() {
        let id = |container_id: &str| {
            ClientId::body_of(&Attachment::new(container_id, "net", "eth0").unwrap())
        };
        assert_eq!(id("abc"), b"\0abc/net/eth0");
        let long = id(&"c".repeat(300));
        assert_eq!(long.len(), 254);
        assert_eq!(long[..3], *b"\0cc");
    }

    #[test]
    fn names_that_are_too_long_still_give_different_identifiers() {
        assert_eq!(from_name("shop/web-0/lan/eth0"), b"\0shop/web-0/lan/eth0");
        for length in [254, 300] {
            let [one, other] = ["1", "2"].map(|end| from_name(&("a".repeat(length) + end)));
            assert_ne!(one, other, "{length} octets and one");
        }
        let one = from_name(&"a".repeat(300));
        assert!((MIN_LEN..=MAX_LEN).contains(&one.len()));
        assert_eq!(from_name(&"a".repeat(254)).len(), MAX_LEN);
    }

    #[test]
    fn a_machines_uuid_is_its_own_and_never_changes() {
        let uuid = uuid_of("0123456789abcdef0123456789abcdef");
        assert_eq!(uuid, uuid_of("0123456789abcdef0123456789abcdef"));
        assert_ne!(uuid, uuid_of("0123456789abcdef0123456789abcdee"));
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 0b10));
    }

    #[test]
    fn a_machine_id_has_32_hexadecimal_digits() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(machine_id(&format!("{id}\n")), Some(id));
        for content in ["", "uninitialized\n", &id[1..], &id.replace('f', "g")] {
            assert_eq!(machine_id(content), None, "{content:?}");
        }
    }
}
