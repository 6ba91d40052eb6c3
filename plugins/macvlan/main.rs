//! The CNI plugin `macvlan`: gives a container an interface of its own on the LAN, as a macvlan sub-interface of
//! one of the host's.

mod add;
mod check;
mod config;
mod configure;
mod container;
mod del;
mod gc;
mod parent;
mod status;

use std::process::ExitCode;

use cni::{About, CniResult, Error, KnownArgs, Plugin, Request};

fn main() -> ExitCode {
    cni::main(&Macvlan)
}

/// The plugin: each verb is a module of its name.
struct Macvlan;

impl Plugin for Macvlan {
    fn about(&self) -> About {
        About {
            name: "macvlan",
            version: env!("CARGO_PKG_VERSION"),
            summary: "puts a container on the LAN with a macvlan interface",
            usage: "",
            known_args: KnownArgs::Only(&["MAC"]),
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        add::add(request)
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
