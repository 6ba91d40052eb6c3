//! A caller like netavark: gRPC over HTTP/2 on a Unix socket, one call on each connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use lab::anyhow::{Context, anyhow, bail, ensure};
use lab::{Result, deadline};
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::messages::{Empty, Lease, NetworkConfig, OperationResponse};

/// Bounds every call. The daemon's own bound is 10 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A call that failed, as gRPC says it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: u16,
    pub(crate) text: String,
}

/// What a call is answered with.
pub(crate) type Answered<T> = std::result::Result<T, Failed>;

/// The daemon, as netavark calls it.
#[derive(Debug, Clone)]
pub(crate) struct Proxy(PathBuf);

impl Proxy {
    pub(crate) fn at(socket: &Path) -> Proxy {
        Proxy(socket.to_owned())
    }

    pub(crate) fn setup(&self, config: &NetworkConfig) -> Result<Answered<Lease>> {
        self.call("Setup", config)
    }

    /// A Setup that must succeed.
    pub(crate) fn lease(&self, config: &NetworkConfig) -> Result<Lease> {
        self.setup(config)?
            .map_err(|failed| anyhow!("Setup failed: {failed:?}"))
    }

    /// A Setup that must fail.
    pub(crate) fn refused(&self, config: &NetworkConfig) -> Result<Failed> {
        match self.setup(config)? {
            Ok(lease) => bail!("it was to be refused: {lease:?}"),
            Err(failed) => Ok(failed),
        }
    }

    pub(crate) fn teardown(&self, config: &NetworkConfig) -> Result<Lease> {
        // As netavark does.
        let config = NetworkConfig {
            host_name: String::new(),
            container_id: String::new(),
            ..config.clone()
        };
        let torn_down = self.call("Teardown", &config)?;
        torn_down.map_err(|failed| anyhow!("Teardown failed: {failed:?}"))
    }

    pub(crate) fn clean(&self) -> Result {
        let cleaned: Answered<OperationResponse> = self.call("Clean", &Empty {})?;
        let cleaned = cleaned.map_err(|failed| anyhow!("Clean failed: {failed:?}"))?;
        ensure!(cleaned.success);
        Ok(())
    }

    /// Calls a method with any body.
    pub(crate) fn call_with<T: Message + Default>(
        &self,
        method: &str,
        body: Vec<u8>,
    ) -> Result<Answered<T>> {
        let runtime = runtime()?;
        let call = async {
            let mut connection = Connection::open(&self.0).await?;
            connection.call(method, body).await
        };
        let answered = runtime.block_on(async { timeout(deadline(CALL_TIMEOUT), call).await });
        match answered.context("the call is answered in time")?? {
            Ok(body) => Ok(Ok(T::decode(unframed(&body)?)?)),
            Err(failed) => Ok(Err(failed)),
        }
    }

    fn call<T: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
    ) -> Result<Answered<T>> {
        self.call_with(method, framed(&message.encode_to_vec()))
    }

    /// How many Cleans succeed on one connection, of so many.
    pub(crate) fn cleans_on_one_connection(&self, number: usize) -> Result<usize> {
        let calls = async {
            let mut connection = Connection::open(&self.0).await?;
            for done in 0..number {
                if connection.call("Clean", framed(b"")).await.is_err() {
                    return Ok(done);
                }
            }
            Ok(number)
        };
        let runtime = runtime()?;
        runtime.block_on(async { timeout(deadline(CALL_TIMEOUT), calls).await })?
    }

    /// Begins a Setup, and leaves its answer alone. Dropping it hangs up.
    pub(crate) fn begin(&self, config: &NetworkConfig) -> Result<Begun> {
        let runtime = runtime()?;
        let body = framed(&config.encode_to_vec());
        let socket = self.0.clone();
        let begun = runtime.block_on(async {
            let mut connection = Connection::open(&socket).await?;
            let response = connection.send("Setup", body)?;
            // The driver writes it when it is next polled.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            Ok::<_, lab::anyhow::Error>((connection, response))
        })?;
        Ok(Begun { begun, runtime })
    }
}

/// A Setup whose answer nobody reads.
pub(crate) struct Begun {
    #[expect(dead_code, reason = "it is dropped with this")]
    begun: (Connection, ResponseFuture),
    #[expect(dead_code, reason = "it is dropped with this")]
    runtime: Runtime,
}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn unframed(body: &[u8]) -> Result<&[u8]> {
    let (head, message) = body.split_at_checked(5).context("a message")?;
    ensure!(head == &framed(message)[..5], "{head:?}");
    Ok(message)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

struct Connection {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(socket: &Path) -> Result<Connection> {
        let stream = UnixStream::connect(socket).await?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(async move {
            // Its end is seen in the call.
            let _ = connection.await;
        });
        Ok(Connection { requests, driver })
    }

    fn send(&mut self, method: &str, body: Vec<u8>) -> Result<ResponseFuture> {
        let request = Request::post(format!(
            "http://[::1]/netavark_proxy.NetavarkProxy/{method}"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "tonic/0.12")
        .body(())?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        stream.send_data(body.into(), true)?;
        Ok(response)
    }

    /// The body of the answer, or the status if it is no success.
    async fn call(&mut self, method: &str, body: Vec<u8>) -> Result<Answered<Vec<u8>>> {
        let response = self.send(method, body)?.await?;
        ensure!(response.status() == 200, "{response:?}");
        if let Some(failed) = status(response.headers())? {
            return Ok(Err(failed));
        }
        let mut stream = response.into_body();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let trailers = stream.trailers().await?.context("a status")?;
        ensure!(trailers["grpc-status"] == "0", "{trailers:?}");
        Ok(Ok(body))
    }
}

/// The status in these headers, if there is one.
fn status(headers: &HeaderMap) -> Result<Option<Failed>> {
    let Some(code) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let message = headers.get("grpc-message").map(|it| it.to_str());
    Ok(Some(Failed {
        code: code.to_str()?.parse()?,
        text: percent_decoded(message.transpose()?.unwrap_or_default())?,
    }))
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(Option::unwrap_or_default);
                octets.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
            }
            octet => octets.push(octet),
        }
    }
    Ok(String::from_utf8(octets)?)
}
