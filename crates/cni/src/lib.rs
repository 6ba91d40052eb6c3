//! A library for plugins of the Container Network Interface (CNI): [the specification][spec] 1.1.0,
//! and every version before it.
//!
//! A container runtime runs a CNI plugin once for each operation. It passes the verb (ADD, DEL,
//! CHECK, …) and other parameters in the environment, and the network configuration on stdin. The
//! plugin answers with one JSON document on stdout. This library does all of that: it validates
//! environment and configuration, calls the plugin, and writes its result or error in the version
//! that the configuration asks for, even if the plugin panics. It does not touch the network.
//!
//! # A plugin
//!
//! A plugin implements [`Plugin`] and passes itself to [`main`]. This one hands out the address
//! that its configuration contains:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use cni::{About, CniResult, Error, IpConfig, KnownArgs, Plugin, Request, code};
//! use serde::Deserialize;
//!
//! /// The plugin's own keys in the network configuration.
//! #[derive(Deserialize)]
//! struct Config {
//!     address: ipnet::IpNet,
//! }
//!
//! struct OneAddress;
//!
//! impl Plugin for OneAddress {
//!     fn about(&self) -> About {
//!         About {
//!             name: "one-address",
//!             version: env!("CARGO_PKG_VERSION"),
//!             summary: "gives every container the address in the configuration",
//!             usage: "",
//!             known_args: KnownArgs::Only(&[]),
//!         }
//!     }
//!
//!     fn add(&self, request: &Request) -> Result<CniResult, Error> {
//!         let config: Config = cni::go::decode(&request.config.raw)?;
//!         Ok(CniResult {
//!             ips: vec![IpConfig::new(config.address)],
//!             ..CniResult::default()
//!         })
//!     }
//!
//!     fn check(&self, request: &Request) -> Result<(), Error> {
//!         let expected = self.add(request)?.ips;
//!         match &request.config.prev_result {
//!             Some(previous) if previous.ips == expected => Ok(()),
//!             _ => Err(Error::new(
//!                 code::INVALID_NETWORK_CONFIG,
//!                 "the address is not the one in prevResult",
//!             )),
//!         }
//!     }
//!
//!     // This plugin keeps nothing that it would have to remove.
//!     fn del(&self, _: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     fn gc(&self, _: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     fn status(&self, _: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     cni::main(&OneAddress)
//! }
//! ```
//!
//! # Testing a plugin
//!
//! [`run()`] is [`main`] with the environment and the streams as arguments, so a test needs neither
//! a process nor a runtime:
//!
//! ```
//! # use cni::{About, CniResult, Error, KnownArgs, Plugin, Request};
//! # struct OneAddress;
//! # impl Plugin for OneAddress {
//! #     fn about(&self) -> About {
//! #         let known_args = KnownArgs::Any;
//! #         About { name: "one-address", version: "1", summary: "", usage: "", known_args }
//! #     }
//! #     fn add(&self, request: &Request) -> Result<CniResult, Error> {
//! #         #[derive(serde::Deserialize)]
//! #         struct Config { address: ipnet::IpNet }
//! #         let config: Config = cni::go::decode(&request.config.raw)?;
//! #         let ips = vec![cni::IpConfig::new(config.address)];
//! #         Ok(CniResult { ips, ..CniResult::default() })
//! #     }
//! #     fn check(&self, _: &Request) -> Result<(), Error> { Ok(()) }
//! #     fn del(&self, _: &Request) -> Result<(), Error> { Ok(()) }
//! #     fn gc(&self, _: &Request) -> Result<(), Error> { Ok(()) }
//! #     fn status(&self, _: &Request) -> Result<(), Error> { Ok(()) }
//! # }
//! let env: cni::Env = [
//!     ("CNI_COMMAND", "ADD"),
//!     ("CNI_CONTAINERID", "c1"),
//!     ("CNI_NETNS", "/run/netns/c1"),
//!     ("CNI_IFNAME", "eth0"),
//! ]
//! .into_iter()
//! .collect();
//! let stdin = br#"{
//!     "cniVersion": "1.0.0", "name": "lan", "type": "one-address", "address": "10.99.0.7/24"
//! }"#;
//! let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
//!
//! let status = cni::run(&OneAddress, &env, &stdin[..], &mut stdout, &mut stderr);
//!
//! assert_eq!(status, 0);
//! assert_eq!(
//!     serde_json::from_slice::<serde_json::Value>(&stdout)?,
//!     serde_json::json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.7/24" }] })
//! );
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What is where
//!
//! - [`Request`] has what the runtime asks for: the verb, the [`Attachment`], CNI_ARGS and the
//!   [`NetworkConfig`]. Its methods find what a user asks for one container, such as a MAC address.
//! - [`go`] decodes a plugin's own keys by the rules of the reference plugins.
//! - [`CniResult`] is the result in the shape of 1.1.0. Reading and writing convert it from and to
//!   every version.
//! - [`Error`] and [`code`] are the specification's errors.
//! - [`printable()`] escapes what names and messages from outside could do to a terminal or a log.
//! - [`delegate::Ipam`] runs the IPAM plugin that a configuration names.
//!
//! [spec]: https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md

pub mod delegate;
mod error;
pub mod go;
mod invalid;
mod plugin;
mod printable;
mod request;
mod result;
mod run;
mod version;
mod warnings;

pub use error::{Error, code};
pub use invalid::json_problem;
pub use plugin::{About, Plugin};
pub use printable::printable;
pub use request::{
    Answer, Args, Attachment, BuiltIn, Env, InvalidAttachment, KnownArgs, NetworkConfig, Request,
    Verb,
};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use run::{main, run};
pub use version::Version;
pub use warnings::to_stderr as warnings_to_stderr;
