//! The CNI plugin `macvlan`: gives a container an interface of its own on the LAN, as a macvlan on
//! one of the host's links.
//!
//! Each of CNI's operations is a module with its name. The plugin keeps no record of the objects
//! that it made: marks on the objects in the kernel show them ([`attachment::OwnerMark`],
//! [`attachment::SharedLink`]).

mod add;
mod check;
mod cleanup;
pub mod config;
mod del;
mod gc;
mod guard;
mod host_access;
mod netns;
pub mod parent;
mod status;
#[cfg(test)]
mod testing;

use std::cell::RefCell;
use std::process::ExitCode;

use cni::{About, BuiltIn, CniResult, Error, KnownArgs, Plugin, Request};

/// The whole of the program, of which these delegates are part.
pub fn main(built_in: &'static [BuiltIn]) -> ExitCode {
    cni::main(&Macvlan {
        built_in,
        ..Macvlan::default()
    })
}

/// The keys of the network configuration that this plugin takes, besides those that every CNI
/// plugin has.
pub fn configuration_keys() -> &'static [&'static str] {
    config::keys()
}

#[derive(Default)]
struct Macvlan {
    built_in: &'static [BuiltIn],
    /// The interface that ADD created, until its result has been written.
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

    fn built_in(&self) -> &'static [BuiltIn] {
        self.built_in
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let (result, unfinished) = add::add(request)?;
        self.unfinished.replace(Some(unfinished));
        Ok(result)
    }

    fn on_committed(&self, _: &Request) {
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.finish();
        }
    }

    fn roll_back(&self, request: &Request) -> Result<(), Error> {
        let unfinished = self.unfinished.borrow();
        match unfinished.as_ref().is_some_and(add::Unfinished::is_gone) {
            // What there is of the attachment by now is another ADD's.
            true => Ok(()),
            false => del::del(request),
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
