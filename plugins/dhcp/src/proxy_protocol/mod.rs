//! The protocol of netavark's DHCP proxy, which Podman's networks with `--ipam-driver dhcp` use:
//! three gRPC calls over HTTP/2 on a Unix socket. The messages are read and written by hand, as there
//! are three small ones; the tests compare them with what `prost` makes of the same definitions.
//!
//! - `wire` is the encoding of Protocol Buffers, as far as these messages need it.
//! - `messages` are the messages.
//! - `grpc` is what gRPC puts around them: a length before each, and a status after the last.

mod grpc;
mod messages;
mod wire;

pub(crate) use grpc::{Code, HEADER_LEN, Status, frame, unframe};
pub use messages::{IpVersion, Lease, NetworkConfig, OperationResponse};
pub use wire::Malformed;

/// The path of the call that leases an address.
pub(crate) const SETUP: &str = "/netavark_proxy.NetavarkProxy/Setup";

/// The path of the call that releases it.
pub(crate) const TEARDOWN: &str = "/netavark_proxy.NetavarkProxy/Teardown";

/// The path of the call that has the proxy forget what nobody needs any more.
pub(crate) const CLEAN: &str = "/netavark_proxy.NetavarkProxy/Clean";
