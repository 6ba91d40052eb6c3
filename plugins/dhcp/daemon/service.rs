//! Serving one caller: its request, and what becomes of it.

use std::os::fd::{AsFd, OwnedFd};

use cni::{Error, Version, code};
use linknet::Netns;
use tokio::net::UnixStream;

use super::Daemon;
use super::connection::{Connection, Refusal};
use super::table::Table;
use crate::protocol::{Reply, Request, Verb};

/// Serves a caller from its request to its reply. A caller that hangs up in between is served no further, and what
/// was under way for it is undone.
pub(crate) async fn serve(daemon: &Daemon, stream: UnixStream) {
    let (mut connection, request, descriptor) = match admit(stream).await {
        Ok(admitted) => admitted,
        Err((refusal, connection)) => {
            tracing::warn!("request refused: {refusal}");
            if let Some(mut connection) = connection {
                let refused =
                    Error::new(code::IO_FAILURE, format!("the dhcp daemon refused the request: {refusal}"));
                // Whoever cannot be told has gone.
                let _ = connection.reply(&failed(refused)).await;
            }
            return;
        }
    };
    tracing::debug!(verb = ?request.verb, traceparent = request.traceparent, "request");
    if matches!(request.verb, Verb::Takeover) {
        hand_over(daemon, &mut connection).await;
        return;
    }
    let reply = tokio::select! {
        reply = perform(&daemon.table, request.verb, descriptor) => reply,
        () = connection.hung_up() => {
            tracing::info!("the caller hung up; its request is cancelled");
            return;
        }
    };
    if let Err(error) = connection.reply(&reply).await {
        tracing::info!(%error, "the caller was gone before the reply");
    }
}

/// Hands the listening socket to a successor, and ends: it goes on with the leases as they are on disk, and no caller
/// finds the door shut meanwhile.
async fn hand_over(daemon: &Daemon, connection: &mut Connection) {
    tracing::info!("another daemon takes over");
    match connection.reply_with(&Reply::Done, Some(daemon.listener.as_fd())).await {
        Ok(()) => {
            daemon.listener.leave_the_file();
            daemon.stop.notify_one();
        }
        Err(error) => tracing::error!(%error, "it could not be handed the socket"),
    }
}

type Admitted = (Connection, Request, Option<OwnedFd>);

async fn admit(stream: UnixStream) -> Result<Admitted, (Refusal, Option<Connection>)> {
    let mut connection = Connection::accept(stream).map_err(|refusal| (refusal, None))?;
    match connection.request().await {
        Ok((request, descriptor)) => Ok((connection, request, descriptor)),
        Err(refusal) => Err((refusal, Some(connection))),
    }
}

async fn perform(table: &Table, verb: Verb, descriptor: Option<OwnedFd>) -> Reply {
    if let Some(attachment) = verb.attachment().filter(|attachment| !attachment.is_well_formed()) {
        let what = format!("{attachment:?} is no attachment that CNI allows");
        return failed(Error::new(code::INVALID_ENVIRONMENT, what));
    }
    match verb {
        Verb::Add { attachment, netns, terms } => {
            let opened = match descriptor {
                Some(descriptor) => Netns::from_fd(descriptor)
                    .map_err(|error| Error::new(code::INVALID_ENVIRONMENT, format!("CNI_NETNS: {error}"))),
                None => table.open_netns(&netns),
            };
            let added = match opened {
                Ok(opened) => table.add(&attachment, opened, &netns, *terms).await,
                Err(error) => Err(error),
            };
            match added.and_then(|result| result.to_value(Version::LATEST)) {
                Ok(result) => Reply::Lease(result),
                Err(error) => {
                    tracing::warn!(%attachment, "ADD failed: {error}");
                    failed(error)
                }
            }
        }
        Verb::Check { attachment, addresses } => match table.check(&attachment, &addresses) {
            Ok(()) => Reply::Done,
            Err(error) => failed(error),
        },
        Verb::Del { attachment } => {
            table.del(&attachment).await;
            Reply::Done
        }
        Verb::Status | Verb::Takeover => Reply::Done,
        Verb::Gc { network, keep } => {
            table.gc(&network, &keep).await;
            Reply::Done
        }
    }
}

fn failed(Error { code, msg, details }: Error) -> Reply {
    Reply::Error { code, msg, details }
}
