//! The three calls.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cni::Attachment;
use linknet::{Mac, Netlink, Netns};

use super::translation;
use crate::daemon::error::internal;
use crate::daemon::leases::{self, Table};
use crate::protocol::AddId;
use crate::proxy_protocol::{
    CLEAN, Code, Lease, NetworkConfig, OperationResponse, SETUP, Status, TEARDOWN,
};
use crate::random::random_octets;

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its message.
    pub(super) message: Vec<u8>,
    /// What must be undone if the answer does not reach the caller.
    pub(super) undo: Option<Undo>,
}

/// A lease that a Setup obtained, and by which ADD.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) attachment: Attachment,
    pub(super) id: AddId,
}

/// Serves the call at this path.
///
/// # Errors
/// Why it failed.
pub(super) async fn serve(table: &Rc<Table>, path: &str, message: &[u8]) -> Result<Answer, Status> {
    let config = || {
        NetworkConfig::decode(message).map_err(|error| {
            let text = format!("the message cannot be read: {error}");
            Status::new(Code::InvalidArgument, text)
        })
    };
    let done = |message| Answer {
        message,
        undo: None,
    };
    match path {
        SETUP => setup(table, &config()?).await,
        TEARDOWN => Ok(done(teardown(table, &config()?).await?.encode())),
        CLEAN => {
            leases::abandon_gone(table);
            Ok(done(OperationResponse.encode()))
        }
        _ => {
            let text = format!("there is no call {path}");
            Err(Status::new(Code::Unimplemented, text))
        }
    }
}

/// Setup: leases an address, and configures the interface.
async fn setup(table: &Rc<Table>, config: &NetworkConfig) -> Result<Answer, Status> {
    translation::verify(config)?;
    let attachment = translation::attachment(config)?;
    let mac = translation::mac(config)?;
    let path = PathBuf::from(&config.ns_path);
    let netns = Netns::open(table.on_host(&path))
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    ensure_interface(&netns, &path, &config.container_iface, mac)?;
    let (mut params, is_free) = translation::lease_params(config)?;
    if is_free {
        let of_container = translation::client_id(&config.container_id);
        params = leases::choose_identity(table, &attachment, mac, params, of_container);
    }
    let (container, parent) = (&config.container_id, &config.host_iface);
    tracing::info!(%attachment, container, parent, "netavark asks for an address");
    let id = random_octets().map(AddId::from_ne_bytes);
    let id = id.map_err(internal)?;
    let added = leases::add(
        table,
        &attachment,
        netns,
        &path,
        params,
        Duration::ZERO,
        Some(id),
    );
    let result = added.await?;
    let lease = table.lease(&attachment);
    let lease = lease.ok_or_else(|| internal("a lease ended before it was answered"))?;
    let mac = config.container_mac_addr.clone();
    Ok(Answer {
        message: translation::answer(&lease, &result, mac).encode(),
        undo: Some(Undo { attachment, id }),
    })
}

/// Teardown: releases the address. Without a lease there is nothing to do, as for DEL.
async fn teardown(table: &Rc<Table>, config: &NetworkConfig) -> Result<Lease, Status> {
    let attachment = translation::attachment(config)?;
    leases::resume_rest(table);
    let mac = config.container_mac_addr.clone();
    let ended = table.lease(&attachment).zip(table.result(&attachment));
    let answer = ended.map(|(lease, result)| translation::answer(&lease, &result, mac));
    leases::del(table, &attachment).await;
    Ok(answer.unwrap_or_default())
}

/// Checks that the interface is there and is the one that netavark means.
fn ensure_interface(netns: &Netns, path: &Path, ifname: &str, mac: Mac) -> Result<(), Status> {
    let invalid = |text| Status::new(Code::InvalidArgument, text);
    let path = path.display();
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link(ifname));
    let link = link.map_err(|error| {
        let text = format!("in {path}: {error}");
        Status::new(Code::Internal, text)
    })?;
    let Some(link) = link else {
        return Err(invalid(format!(
            "No such device: there is no {ifname} in {path}"
        )));
    };
    match link.mac {
        Some(own) if own == mac => Ok(()),
        Some(own) => Err(invalid(format!(
            "{ifname} in {path} has the MAC address {own}, not {mac}"
        ))),
        None => Err(invalid(format!(
            "{ifname} in {path} is not an Ethernet interface"
        ))),
    }
}
