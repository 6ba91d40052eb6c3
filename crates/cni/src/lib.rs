//! The Container Network Interface as a library for plugins: [the specification][spec] at 1.1.0 and
//! every version before it.
//!
//! A plugin implements [`Plugin`] and hands itself to [`main`]. The protocol itself is [`run`]: a
//! function of the environment, stdin, stdout and stderr, so that it can be tested with a map and a
//! buffer. It validates the [`Request`], calls the plugin, and answers with exactly one JSON
//! document in the version that the configuration names, even when the plugin panics.
//!
//! ```text
//! Env + stdin ──Request::parse──▶ Request ──Plugin::add──▶ CniResult ──to_value(version)──▶ stdout
//!                                    │
//!                                    └──delegate::Ipam──▶ another plugin, found on CNI_PATH
//! ```
//!
//! Nothing here knows what an interface or a namespace is; nothing here touches the network.
//!
//! [spec]: https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md

mod args;
mod attachment;
mod config;
mod conventions;
pub mod delegate;
mod env;
mod error;
pub mod go;
mod plugin;
mod request;
mod result;
mod run;
mod validate;
mod version;

pub use args::{Args, KnownArgs};
pub use attachment::{Attachment, InvalidAttachment};
pub use config::NetworkConfig;
pub use env::{Env, Verb};
pub use error::{Error, code};
pub use plugin::{About, Plugin};
pub use request::{MAX_STDIN, Request};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use run::{main, run};
pub use version::Version;
