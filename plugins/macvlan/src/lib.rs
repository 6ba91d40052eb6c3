//! The CNI plugin `macvlan`: gives a container an interface of its own on the LAN, as a macvlan
//! sub-interface of one of the host's.

mod add;
mod addresses;
mod check;
mod codes;
mod config;
mod container;
mod del;
mod diagnosis;
#[cfg(test)]
mod fuzz;
mod gc;
mod host_access;
mod keep_routes;
mod make;
mod mark;
mod parent;
mod remains;
mod routes;
mod source_routing;
mod status;
#[cfg(test)]
mod testing;

use std::cell::RefCell;
use std::process::ExitCode;

use cni::{About, CniResult, Error, KnownArgs, Plugin, Request};

/// The whole of the program.
pub fn main() -> ExitCode {
    cni::main(&Macvlan::default())
}

/// The keys of the network configuration that this plugin takes, besides those that every CNI plugin
/// has.
pub fn configuration_keys() -> &'static [&'static str] {
    config::keys()
}

/// The plugin: each verb is a module of its name.
#[derive(Default)]
struct Macvlan {
    /// What ADD has made, until the runtime has heard of it.
    unfinished: RefCell<Option<add::Unfinished>>,
}

impl Plugin for Macvlan {
    fn about(&self) -> About {
        About {
            name: "macvlan",
            version: env!("CARGO_PKG_VERSION"),
            summary: "puts a container on the LAN with a macvlan interface",
            usage: USAGE,
            known_args: KnownArgs::Only(&["MAC"]),
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let (result, unfinished) = add::add(request)?;
        self.unfinished.replace(Some(unfinished));
        Ok(result)
    }

    fn added(&self, _: &Request) {
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.finish();
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        check::check(request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        del::del(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        status::status(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        gc::gc(request)
    }
}

/// The keys are generated from docs/configuration.md: see tests/docs.rs.
const USAGE: &str = concat!(
    "Keys of the network configuration:\n",
    include_str!("keys.txt"),
    "CNI_ARGS: MAC. Capabilities: mac, and those of the IPAM plugin.\n",
);
