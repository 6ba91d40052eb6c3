//! CNI's operations, each in the module with its name.

use std::cell::RefCell;

use cni::{About, BuiltIn, CniResult, Error, KnownArgs, Plugin, Request};

use crate::add::{self, Unfinished};
use crate::{check, del, gc, status};

/// The plugin.
pub(crate) struct Macvlan {
    built_in: &'static [BuiltIn],
    /// The addresses, if the caller has assigned them.
    assigned: Option<CniResult>,
    /// The interface that ADD created, until its result has been written.
    unfinished: RefCell<Option<Unfinished>>,
}

impl Macvlan {
    /// The plugin, with delegates that are part of this program, and the addresses that the caller
    /// has assigned, if it has.
    pub(crate) fn new(built_in: &'static [BuiltIn], assigned: Option<CniResult>) -> Macvlan {
        Macvlan {
            built_in,
            assigned,
            unfinished: RefCell::default(),
        }
    }
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

    fn complete(&self, request: &mut Request) {
        request.built_in = self.built_in;
        request.assigned.clone_from(&self.assigned);
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
        match unfinished.as_ref().is_some_and(Unfinished::is_gone) {
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
    "\n",
    "Podman runs this program as a network driver, by a link called leasehold in\n",
    "/usr/local/lib/netavark: podman network create -d leasehold -o KEY=VALUE lan\n",
);
