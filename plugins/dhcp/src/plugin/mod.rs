//! The IPAM plugin: each CNI verb asks the daemon, which does the work.

mod absence;
mod autostart;
pub(crate) mod client;
mod embedded;
mod offline;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use attachment::{cannot_open_netns, take_valid_lifetime};
use cni::{About, Attachment, CniResult, Error, KnownArgs, Plugin, Request, Version, code};
use linknet::Netns;

use crate::config::{self, Config, DaemonLocation};
use crate::protocol::{AddId, LeaseParams, Reply, Verb, take_warnings};
use crate::random::random_octets;
use absence::{Absence, MAX_WAIT};
use client::{Failure, ask, ask_to};
use offline::Ending;

pub(crate) use absence::Executable;
pub(crate) use embedded::ask_daemon;

/// The parameters of the lease that a request is about, with this content of its network's file;
/// `None` if there is none.
///
/// # Errors
/// If the configuration or the environment is invalid.
pub(crate) fn lease_params(request: &Request, file: Option<&[u8]>) -> Result<LeaseParams, Error> {
    Config::with_content(request, file)?.lease_params(request)
}

/// The keys are generated from docs/configuration.md: see tests/docs.rs.
const USAGE: &str = concat!(
    "Commands:\n",
    "  dhcp daemon    maintains the leases for the plugin (see dhcp daemon --help)\n",
    "  dhcp status    asks the daemon whether it can serve requests\n",
    "  dhcp leases    lists the daemon's leases\n",
    "  dhcp renew     confirms leases with their servers now\n",
    "  dhcp release   ends leases, and gives their addresses back\n",
    "  dhcp install   copies the plugins into a directory\n",
    "  dhcp adopt     takes over the leases of running containers that the Go daemon had\n",
    "\n",
    "Keys of the ipam section:\n",
    include_str!("../keys.txt"),
);

/// The plugin. `A` is what it does while no daemon answers.
#[derive(Default)]
pub(crate) struct Dhcp<A> {
    absence: A,
    /// The ADD that is being served, if this is one.
    add_id: Cell<Option<AddId>>,
}

impl<A: Absence> Plugin for Dhcp<A> {
    fn about(&self) -> About {
        About {
            name: "dhcp",
            version: env!("CARGO_PKG_VERSION"),
            summary: "leases a container's address from the LAN's own DHCP server",
            usage: USAGE,
            // `fromArg` may name any.
            known_args: KnownArgs::Any,
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::read(request)?;
        config.warn_of_misspelt_keys();
        let path = request.netns.clone().unwrap_or_default();
        let netns = Netns::open(&path);
        let netns = netns.map_err(|error| cannot_open_netns(&error, code::IO_FAILURE))?;
        let daemon = config.daemon.clone();
        let max_wait = MAX_WAIT.min(config.timeout().unwrap_or(MAX_WAIT));
        let attachment = request.attachment()?;
        let delegated = config.delegated_keys();
        let requested = config.requested_address();
        let params = Box::new(config.lease_params(request)?);
        let id = random_octets().map(AddId::from_ne_bytes).ok();
        self.add_id.set(id);
        let ask_daemon = |waited: Duration| {
            let verb = Verb::Add {
                attachment: attachment.clone(),
                netns: path.clone(),
                params: params.clone(),
                waited: Some(waited),
                id,
            };
            let traceparent = request.traceparent.clone();
            ask(&daemon.socket, verb, traceparent, Some(netns.as_fd()))
        };
        let reply = self.absence.add(&daemon, max_wait, &ask_daemon);
        let mut result = match reply? {
            Reply::Lease(mut lease) => {
                for warning in take_warnings(&mut lease) {
                    log::warn!("{attachment}: {warning}");
                }
                CniResult::from_value(lease, Version::LATEST)?
            }
            other => return Err(client::unexpected(&other)),
        };
        for warning in config::ungranted(request, requested, &result)? {
            log::warn!("{attachment}: {warning}");
        }
        let is_delegated = request.config.plugin_type != self.about().name;
        for ip in &mut result.ips {
            if is_delegated {
                delegated.add_to(ip);
            } else {
                // The runtime called us directly, and does not know this extension.
                take_valid_lifetime(ip);
            }
        }
        Ok(result)
    }

    fn roll_back(&self, request: &Request) -> Result<(), Error> {
        let verb = Verb::Del {
            attachment: request.attachment()?.clone(),
            only: self.add_id.get(),
        };
        // If no daemon runs, the next one cannot know whose the lease is. It ends with a DEL, or
        // with the container.
        let daemon = DaemonLocation::read(request)?;
        Ok(ask_to(&daemon.socket, verb, request.traceparent.clone())?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::read(request)?;
        let previous = request.config.prev_result.iter();
        let addresses: Vec<Ipv4Addr> = previous
            .flat_map(|result| &result.ips)
            .filter_map(|ip| match ip.address.addr() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
            .collect();
        let verb = Verb::Check {
            attachment: request.attachment()?.clone(),
            addresses,
        };
        let daemon = &config.daemon;
        let ask_daemon = || ask_to(&daemon.socket, verb.clone(), None);
        Ok(self.absence.check(daemon, &ask_daemon)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let attachment = request.attachment()?;
        let verb = Verb::Del {
            attachment: attachment.clone(),
            only: None,
        };
        let ending = Ending::Attachment(attachment, request.netns.as_deref());
        self.absence
            .end(&DaemonLocation::read(request)?, request, &verb, ending)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::read(request)?;
        config.warn_of_misspelt_keys();
        match ask_to(&config.daemon.socket, Verb::Status, None) {
            // ADD starts one.
            Err(Failure::NoDaemon(_)) if config.daemon.autostart => Ok(()),
            status => status.map_err(|failure| Error {
                code: code::PLUGIN_NOT_AVAILABLE,
                ..failure.into()
            }),
        }
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let Some(valid) = &request.valid_attachments else {
            return Ok(());
        };
        let network = &request.config.name;
        let keep: Vec<Attachment> = valid.iter().cloned().collect();
        let verb = Verb::Gc {
            keep: keep.clone(),
            network: network.clone(),
        };
        let ending = Ending::Network(network, &keep);
        self.absence
            .end(&DaemonLocation::read(request)?, request, &verb, ending)
    }
}
