//! Serving one caller: its request, and what becomes of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cni::{Attachment, Error, Version, code};
use linknet::Netns;
use tokio::net::UnixStream;

use super::Daemon;
use super::add::Added;
use super::connection::{Connection, Refusal};
use super::table::Table;
use crate::protocol::{Reply, Request, Terms, Verb};

/// Serves a caller from its request to its reply. A caller that hangs up in between is served no
/// further, and what was under way for it is undone.
pub(crate) async fn serve(daemon: &Daemon, stream: UnixStream) {
    let (mut connection, request, descriptor) = match admit(stream, daemon.group).await {
        Ok(admitted) => admitted,
        Err((refusal, mut connection)) => {
            tracing::warn!("request refused: {refusal}");
            let refused = Error::new(
                refusal.code(),
                format!("the dhcp daemon refused the request: {refusal}"),
            );
            // Whoever cannot be told has gone.
            let _ = connection.reply(&failed(refused)).await;
            return;
        }
    };
    tracing::debug!(verb = ?request.verb, "request");
    if let Some(traceparent) = &request.traceparent {
        tracing::info!(
            traceparent,
            attachment = request.verb.attachment().map(tracing::field::display),
            "request of a trace"
        );
    }
    let table = &daemon.table;
    match request.verb {
        Verb::Add {
            attachment,
            netns,
            terms,
        } => {
            let added = tokio::select! {
                added = add(table, &attachment, &netns, *terms, descriptor) => added,
                () = connection.hung_up() => {
                    tracing::info!(%attachment, "the caller hung up; its request is cancelled");
                    return;
                }
            };
            let reply = match added.as_ref() {
                Ok(added) => added
                    .result
                    .to_value_for_caller(Version::LATEST)
                    .map_or_else(failed, Reply::Lease),
                Err(error) => failed(error.clone()),
            };
            if let Err(error) = connection.reply(&reply).await {
                tracing::info!(%attachment, %error, "the caller was gone before the reply");
                if let Ok(added) = added {
                    table.undo(&attachment, &added).await;
                }
            }
        }
        Verb::Takeover => hand_over(daemon, &mut connection).await,
        // What ends leases is done to its end, whoever is there to hear of it.
        verb => {
            let reply = perform(table, verb).await;
            if let Err(error) = connection.reply(&reply).await {
                tracing::info!(%error, "the caller was gone before the reply");
            }
        }
    }
}

/// Hands the listening socket to a successor, and ends: it goes on with the leases as they are on
/// disk, and no caller finds the door shut meanwhile.
async fn hand_over(daemon: &Daemon, connection: &mut Connection) {
    tracing::info!("another daemon takes over");
    match connection
        .reply_with(&Reply::Done, Some(daemon.listener.as_fd()))
        .await
    {
        Ok(()) => {
            daemon.listener.leave_the_file();
            daemon.stop.notify_one();
        }
        Err(error) => tracing::error!(%error, "it could not be handed the socket"),
    }
}

type Admitted = (Connection, Request, Option<OwnedFd>);

async fn admit(stream: UnixStream, group: Option<u32>) -> Result<Admitted, (Refusal, Connection)> {
    let mut connection = Connection::new(stream);
    match connection.request(group).await {
        Ok((request, descriptor)) => Ok((connection, request, descriptor)),
        Err(refusal) => Err((refusal, connection)),
    }
}

async fn add(
    table: &Table,
    attachment: &Attachment,
    path: &Path,
    terms: Terms,
    descriptor: Option<OwnedFd>,
) -> Result<Added, Error> {
    let netns = match descriptor {
        Some(descriptor) => Netns::from_fd(descriptor).map_err(|error| {
            Error::new(code::INVALID_ENVIRONMENT, format!("CNI_NETNS: {error}"))
        })?,
        None => table.open_netns(path)?,
    };
    let added = table.add(attachment, netns, path, terms).await;
    added.inspect_err(|error| tracing::warn!(%attachment, "ADD failed: {error}"))
}

async fn perform(table: &Table, verb: Verb) -> Reply {
    match verb {
        Verb::Check {
            attachment,
            addresses,
        } => match table.check(&attachment, &addresses) {
            Ok(()) => Reply::Done,
            Err(error) => failed(error),
        },
        Verb::Del { attachment } => {
            table.del(&attachment).await;
            Reply::Done
        }
        Verb::Gc { network, keep } => {
            table.gc(&network, &keep).await;
            Reply::Done
        }
        Verb::Status => table.status().map_or_else(failed, |()| Reply::Done),
        Verb::Add { .. } | Verb::Takeover => failed(super::internal(&"a request went astray")),
    }
}

fn failed(Error { code, msg, details }: Error) -> Reply {
    Reply::Error { code, msg, details }
}
