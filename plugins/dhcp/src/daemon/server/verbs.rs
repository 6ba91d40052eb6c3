//! Serving a caller, from its request to its reply.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use cni::{Attachment, CniResult, Error, Version};
use linknet::Netns;
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore};
use tracing::field::display;

use super::caller::{Caller, Denied};
use super::connection::{Connection, Received, Refusal};
use super::listener::Listener;
use super::places::Place;
#[cfg(feature = "podman")]
use super::podman;
use crate::daemon::leases::{self, Table};
use crate::protocol::{self, AddId, LeaseParams, Reply, Request, Verb};

/// Serves callers.
#[derive(Debug)]
pub(crate) struct Server {
    /// The leases.
    pub(crate) table: Rc<Table>,
    listeners: Vec<Listener>,
    /// Notified when a successor has taken over the socket.
    pub(crate) stop: Notify,
    /// The group that may use the socket besides root.
    group: Option<u32>,
    /// The places of ADDs that its members have requested.
    member_adds: Semaphore,
}

impl Server {
    /// A server for callers of these listeners, about the leases in this table. Of the callers that
    /// are served at a time, a quarter may be members of the group with an ADD: those of root find a
    /// place whatever they do.
    pub(crate) fn new(
        table: Rc<Table>,
        listeners: Vec<Listener>,
        group: Option<u32>,
        max_callers: usize,
    ) -> Server {
        Server {
            table,
            listeners,
            stop: Notify::new(),
            group,
            member_adds: Semaphore::new(max_callers.div_ceil(4)),
        }
    }

    /// Serves a caller, from its request to its reply.
    pub(crate) async fn serve(&self, stream: UnixStream, mut place: Place) {
        let mut connection = Connection::new(stream);
        let received = tokio::select! {
            biased;
            received = connection.request(self.group) => received,
            () = place.needed() => Err(Refusal::Crowded),
        };
        let received = match received {
            #[cfg(feature = "podman")]
            Ok(Received::Netavark) => {
                return podman::serve(&self.table, connection.into_stream(), place).await;
            }
            Ok(Received::Plugin(caller, request, descriptor)) => Ok((caller, request, descriptor)),
            Err(refusal) => Err(refusal),
        };
        place.keep();
        let attachment = received.as_ref().ok().and_then(|(_, request, _)| {
            let attachment = request.verb.attachment()?;
            Some(attachment.clone())
        });
        let attachment = attachment.as_ref().map(display);
        let admitted = received.and_then(|(caller, request, descriptor)| {
            let (request, netns) = self.admit(caller, *request, descriptor)?;
            let is_add = matches!(request.verb, Verb::Add { .. });
            let place =
                (is_add && caller.member().is_some()).then(|| self.member_adds.try_acquire());
            let place = place.transpose().map_err(|_| Denied::Crowded)?;
            Ok((request, netns, caller.member(), place))
        });
        let (request, netns, member, _member_place) = match admitted {
            Ok(admitted) => admitted,
            Err(Refusal::Empty) => return,
            Err(refusal @ Refusal::GoPlugin) => {
                tracing::warn!("request refused: {refusal}");
                // A caller that does not read it is gone.
                let _ = connection.refuse_in_http().await;
                return;
            }
            Err(refusal) => {
                tracing::warn!(attachment, "request refused: {refusal}");
                let what = format!("the dhcp daemon refused the request: {refusal}");
                let error = Error::new(refusal.code(), what);
                return reply(&mut connection, Err(error)).await;
            }
        };
        log(&request);
        match request.verb {
            Verb::Add {
                attachment,
                netns: path,
                params,
                waited,
                id,
            } => {
                let waited = waited.unwrap_or_default();
                let added = self.add(&attachment, &path, *params, waited, id, netns);
                self.reply_to_add(&mut connection, &attachment, added, id)
                    .await;
            }
            Verb::Takeover => self.hand_over(&mut connection).await,
            Verb::Check {
                attachment,
                addresses,
            } => {
                let checked = leases::check(&self.table, &attachment, &addresses);
                reply(&mut connection, checked).await;
            }
            Verb::Status => reply(&mut connection, self.table.status()).await,
            Verb::Describe => {
                let daemon = leases::describe(&self.table);
                send(&mut connection, &Reply::Daemon(daemon)).await;
            }
            Verb::Renew { attachment } => {
                reply(&mut connection, leases::renew(&self.table, &attachment)).await;
            }
            Verb::Lease { attachment } => {
                let leases = leases::one(&self.table, &attachment);
                let more = false;
                send(&mut connection, &Reply::Leases { leases, more }).await;
            }
            Verb::Leases { after } => {
                let (leases, more) = leases::list(&self.table, after.as_ref(), member);
                send(&mut connection, &Reply::Leases { leases, more }).await;
            }
            // DEL and GC are completed even if the caller is gone. They end leases that could not
            // be read at the start, too.
            Verb::Del {
                attachment,
                only: None,
            } => {
                leases::resume_rest(&self.table);
                leases::del(&self.table, &attachment).await;
                reply(&mut connection, Ok(())).await;
            }
            Verb::Del {
                attachment,
                only: Some(add),
            } => {
                leases::undo(&self.table, &attachment, add).await;
                reply(&mut connection, Ok(())).await;
            }
            Verb::Gc { network, keep } => {
                leases::resume_rest(&self.table);
                leases::gc(&self.table, &network, &keep).await;
                reply(&mut connection, Ok(())).await;
            }
        }
    }

    /// The request, if the caller may make it, and the netns that it has passed.
    fn admit(
        &self,
        caller: Caller,
        mut request: Request,
        descriptor: Option<OwnedFd>,
    ) -> Result<(Request, Option<Netns>), Refusal> {
        caller.ensure_may(&request.verb, descriptor.is_some(), |attachment| {
            self.table.holder(attachment)
        })?;
        let netns = descriptor.map(Netns::from_fd).transpose()?;
        if let Verb::Add { params, .. } = &mut request.verb {
            // The request cannot choose the user: the socket says who the caller is.
            params.member = caller.member();
            netns
                .as_ref()
                .map_or(Ok(()), |netns| caller.ensure_owns(netns))?;
        }
        Ok((request, netns))
    }

    async fn add(
        &self,
        attachment: &Attachment,
        path: &Path,
        params: LeaseParams,
        waited: Duration,
        id: Option<AddId>,
        netns: Option<Netns>,
    ) -> Result<CniResult, Error> {
        let netns = match netns {
            Some(netns) => netns,
            None => self.table.open_netns(path)?,
        };
        let added = leases::add(&self.table, attachment, netns, path, params, waited, id).await;
        added.inspect_err(|error| {
            self.table.note_failure();
            tracing::warn!(%attachment, "ADD failed: {error}");
        })
    }

    /// Replies to an ADD. If the caller hangs up meanwhile, the ADD is cancelled or undone.
    async fn reply_to_add(
        &self,
        connection: &mut Connection,
        attachment: &Attachment,
        added: impl Future<Output = Result<CniResult, Error>>,
        id: Option<AddId>,
    ) {
        let added = tokio::select! {
            added = added => added,
            () = connection.hung_up() => {
                tracing::info!(%attachment, "the caller hung up; cancelling its request");
                return;
            }
        };
        let reply = match &added {
            Ok(result) => {
                let mut lease = result.to_value_for_caller(Version::LATEST);
                protocol::set_warnings(&mut lease, self.table.assumptions(attachment));
                Reply::Lease(lease)
            }
            Err(error) => error.clone().into(),
        };
        if let Err(error) = connection.reply(&reply).await {
            tracing::info!(%attachment, %error, "the caller was gone before the reply");
            if let (Ok(_), Some(id)) = (added, id) {
                leases::undo(&self.table, attachment, id).await;
            }
        }
    }

    /// Passes the listening sockets to a successor, and stops. The successor continues with the
    /// leases as they are on disk, and callers can connect all the time.
    async fn hand_over(&self, connection: &mut Connection) {
        tracing::info!("another daemon is taking over");
        let listeners = self.listeners.iter();
        let (asked, others): (Vec<_>, Vec<_>) = listeners.partition(|it| connection.is_of(it));
        // The one that is asked for comes last: a successor of an earlier release takes that alone.
        let sockets: Vec<BorrowedFd<'_>> = others
            .iter()
            .rev()
            .chain(&asked)
            .map(|it| it.as_fd())
            .collect();
        match connection.reply_with(&Reply::Done, &sockets).await {
            Ok(()) => {
                self.listeners.iter().for_each(Listener::keep_socket_file);
                self.stop.notify_one();
            }
            Err(error) => tracing::error!(%error, "cannot pass the socket to the other daemon"),
        }
    }
}

async fn reply(connection: &mut Connection, outcome: Result<(), Error>) {
    send(connection, &outcome.into()).await;
}

async fn send(connection: &mut Connection, reply: &Reply) {
    if let Err(error) = connection.reply(reply).await {
        tracing::info!(%error, "the caller was gone before the reply");
    }
}

fn log(request: &Request) {
    let attachment = request.verb.attachment().map(display);
    tracing::debug!(verb = request.verb.name(), attachment, "request");
    if let Some(traceparent) = &request.traceparent {
        tracing::info!(traceparent, attachment, "request with a traceparent");
    }
}
