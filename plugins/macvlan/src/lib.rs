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

const USAGE: &str = "\
Keys of the network configuration:
  master           the device on the LAN: its name, altname, alias or MAC, a glob (\"en*\"), a list of these in
                   order of preference, or {\"subnet\": \"192.168.1.0/24\"}; by default that of the default route
  vlan             the VLAN of master to sit on, made while containers need it; or master: \"eth1.228\"
  mode             bridge (default), private, vepa, passthru, source
  mtu, mac         of the interface; by default the parent's, and a random one
  linkInContainer  look for master in the container
  bcqueuelen       length of the parent's queue of broadcasts
  bclim            from how many receivers on broadcasts go through that queue
  sourceMacs       mode source: whom to hear
  nopromisc        mode passthru: leave the parent unpromiscuous
  hostAccess       let this host reach the container, which a macvlan keeps apart otherwise
  sourceRouting    answer from the interface's addresses through itself, with routes in a table of its own: true, or
                   the table's number
  keepRoutes       prefixes that stay on the way that they had before the interface came
  ipam, dns        as of any plugin; without ipam the interface has no address
CNI_ARGS: MAC. Capabilities: mac, and those of the IPAM plugin.
";
