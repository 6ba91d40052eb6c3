//! A connection of HTTP/2: a few calls at a time, each of limited length and in limited time.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::calls::{self, Answer, Undo};
use super::delivery::{Delivery, Watched};
use crate::daemon::leases::{self, Table};
use crate::daemon::server::places::Place;
use crate::proxy_protocol::{Code, HEADER_LEN, Status, frame, unframe};

/// How long a connection may stay without a call, and a call without its message. netavark makes one
/// call on each connection, at once.
const CALLER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest message of a call, in octets: names, a path, and an identifier.
const MAX_MESSAGE: usize = 16 * 1024;

/// How many calls may be under way on a connection.
const MAX_STREAMS: u32 = 4;

/// How many calls a connection may make in all.
const MAX_CALLS: usize = 64;

/// The longest headers of a call, in octets.
const MAX_HEADERS: u32 = 8 * 1024;

/// What gRPC calls its bodies.
const GRPC: &str = "application/grpc";

/// Serves the calls of a caller that may name any namespace. If it hangs up, a Setup is cancelled, or
/// undone if its answer was not sent.
pub(in crate::daemon::server) async fn serve(
    table: &Rc<Table>,
    stream: UnixStream,
    mut place: Place,
) {
    let delivery = Rc::new(Delivery::default());
    let socket = Watched::new(stream, Rc::clone(&delivery));
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .initial_window_size(MAX_MESSAGE as u32)
        .initial_connection_window_size(MAX_STREAMS * MAX_MESSAGE as u32)
        .handshake(socket);
    let connected = tokio::select! {
        connected = timeout(CALLER_TIMEOUT, handshake) => connected,
        () = place.needed() => return,
    };
    let mut connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::warn!(%error, "a call of netavark's failed"),
        Err(_) => return tracing::warn!("a call of netavark's did not come within 5 s"),
    };
    let mut calls = JoinSet::new();
    let mut unsent: Vec<Undo> = Vec::new();
    let mut number = 0;
    loop {
        if !delivery.is_pending() {
            unsent.clear();
        }
        let is_idle = calls.is_empty();
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    place.keep();
                    number += 1;
                    if number == MAX_CALLS {
                        connection.graceful_shutdown();
                    }
                    let (table, delivery) = (Rc::clone(table), Rc::clone(&delivery));
                    calls.spawn_local(call(table, request, respond, delivery));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection of netavark's ended");
                    break;
                }
                None => break,
            },
            Some(called) = calls.join_next() => match called {
                Ok(undo) => unsent.extend(undo),
                Err(error) => tracing::error!(%error, "a call panicked; this is a bug"),
            },
            () = sleep(CALLER_TIMEOUT), if is_idle => break,
            () = place.needed(), if number == 0 => break,
        }
    }
    // A call may have ended at the same moment as the connection.
    while let Some(called) = calls.try_join_next() {
        unsent.extend(called.into_iter().flatten());
    }
    if !calls.is_empty() {
        tracing::info!("netavark hung up; cancelling its calls");
    }
    drop(calls);
    if delivery.is_pending() {
        for Undo { attachment, id } in unsent {
            tracing::info!(%attachment, "netavark was gone before the answer");
            leases::undo(table, &attachment, id).await;
        }
    }
}

/// Serves one call. Returns how to undo it.
async fn call(
    table: Rc<Table>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    delivery: Rc<Delivery>,
) -> Option<Undo> {
    if let Some(refusal) = refusal(&request) {
        // A caller that is gone needs no answer, here and below.
        let _ = respond.send_response(refusal, true);
        return None;
    }
    let (head, body) = request.into_parts();
    let answered = tokio::select! {
        answered = answer(&table, head.uri.path(), body) => answered,
        _ = poll_fn(|context| respond.poll_reset(context)) => {
            tracing::info!("netavark cancelled its call");
            return None;
        }
    };
    delivery.queued();
    match answered {
        Ok(Answer { message, undo }) => {
            let _ = send(&mut respond, &message);
            undo
        }
        Err(status) => {
            tracing::warn!("a call of netavark's failed: {}", status.text);
            let _ = respond.send_response(failure(&status), true);
            None
        }
    }
}

/// Reads the call's message, and does what it asks for.
async fn answer(table: &Rc<Table>, path: &str, body: RecvStream) -> Result<Answer, Status> {
    let body = timeout(CALLER_TIMEOUT, read(body)).await;
    let body =
        body.map_err(|_| Status::new(Code::Unknown, "the message did not come within 5 s"))?;
    calls::serve(table, path, unframe(&body?)?).await
}

/// Reads a body that is no longer than a call's.
async fn read(mut body: RecvStream) -> Result<Vec<u8>, Status> {
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
        if read.len() + piece.len() > HEADER_LEN + MAX_MESSAGE {
            let text = format!("the message is longer than {MAX_MESSAGE} octets");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        read.extend_from_slice(&piece);
        // Fails if the stream has ended, and needs no more room.
        let _ = body.flow_control().release_capacity(piece.len());
    }
    Ok(read)
}

/// The answer to what is no call of gRPC.
fn refusal(request: &Request<RecvStream>) -> Option<Response<()>> {
    let kind = request.headers().get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()));
    let status = match (request.method(), is_grpc) {
        (&Method::POST, true) => return None,
        (&Method::POST, false) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut refusal = Response::new(());
    *refusal.status_mut() = status;
    Some(refusal)
}

/// The headers of an answer.
fn headers() -> Response<()> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static(GRPC);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The answer to a call that failed: headers alone.
fn failure(status: &Status) -> Response<()> {
    let mut response = headers();
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(status.code as u16));
    if let Ok(message) = HeaderValue::from_str(&status.message()) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Sends the message of a call that succeeded, and its status after it.
fn send(respond: &mut SendResponse<Bytes>, message: &[u8]) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(headers(), false)?;
    stream.send_data(frame(message).into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}
