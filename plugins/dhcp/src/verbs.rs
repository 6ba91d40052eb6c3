//! The CNI verbs of the plugin: each asks the daemon, which does the work.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use attachment::take_valid_lifetime;
use cni::{About, Attachment, CniResult, Error, KnownArgs, Plugin, Request, Version, code};
use linknet::{Netns, NetnsError};

use crate::absent;
use crate::autostart;
use crate::client::{Failure, ask};
use crate::config::{Config, Whereabouts};
use crate::protocol::{Reply, Verb};

/// The plugin.
pub(crate) struct Dhcp;

impl Plugin for Dhcp {
    fn about(&self) -> About {
        About {
            name: "dhcp",
            version: env!("CARGO_PKG_VERSION"),
            summary: "leases a container's address from the LAN's own DHCP server",
            usage: "Commands:\n  dhcp daemon    keeps the leases; the plugin asks it (dhcp daemon --help)\n",
            // `fromArg` may name any.
            known_args: KnownArgs::Any,
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::read(request)?;
        let path = request.netns.clone().unwrap_or_default();
        let netns = Netns::open(&path).map_err(|error| {
            let code = match error {
                NetnsError::NotFound(_) => code::UNKNOWN_CONTAINER,
                NetnsError::NotNetns(_) => code::INVALID_ENVIRONMENT,
                NetnsError::Io { .. } => code::IO_FAILURE,
            };
            Error::new(code, format!("CNI_NETNS: {error}"))
        })?;
        let daemon = config.daemon.clone();
        let terms = Box::new(config.terms(request)?);
        let verb = Verb::Add {
            attachment: request.attachment()?.clone(),
            netns: path,
            terms,
        };
        let ask_daemon = || {
            ask(
                &daemon.socket,
                verb.clone(),
                request.traceparent.clone(),
                Some(netns.as_fd()),
            )
        };
        let reply = match ask_daemon() {
            Err(Failure::Absent(_) | Failure::Ended(_)) if daemon.autostart => {
                autostart::start(&daemon, ask_daemon)
            }
            other => other,
        };
        match reply? {
            Reply::Lease(result) => {
                let mut result = CniResult::from_value(result, Version::LATEST)?;
                if request.config.plugin_type == self.about().name {
                    // The runtime called us directly: a lifetime would mean nothing to it.
                    for ip in &mut result.ips {
                        take_valid_lifetime(ip);
                    }
                }
                Ok(result)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::read(request)?;
        let v4 = |ip: &cni::IpConfig| match ip.address.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        let previous = request.config.prev_result.iter();
        let addresses: Vec<Ipv4Addr> = previous
            .flat_map(|result| &result.ips)
            .filter_map(v4)
            .collect();
        done(ask(
            &config.daemon.socket,
            Verb::Check {
                attachment: request.attachment()?.clone(),
                addresses,
            },
            None,
            None,
        )?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let daemon = Whereabouts::read(request)?;
        let attachment = request.attachment()?;
        let ask_daemon = || {
            let verb = Verb::Del {
                attachment: attachment.clone(),
            };
            done(ask(
                &daemon.socket,
                verb,
                request.traceparent.clone(),
                None,
            )?)
            .map_err(Failure::Failed)
        };
        absent::without_daemon(&daemon.store, ask_daemon, |store| {
            absent::strike(store, attachment)
        })
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::read(request)?;
        let reply = ask(&config.daemon.socket, Verb::Status, None, None).map_err(|failure| {
            let error = Error::from(failure);
            Error {
                code: code::PLUGIN_NOT_AVAILABLE,
                ..error
            }
        })?;
        done(reply)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let Some(valid) = &request.valid_attachments else {
            return Ok(());
        };
        let network = request.config.name.clone();
        let keep: Vec<Attachment> = valid.iter().cloned().collect();
        let daemon = Whereabouts::read(request)?;
        let ask_daemon = || {
            let verb = Verb::Gc {
                keep: keep.clone(),
                network: network.clone(),
            };
            done(ask(
                &daemon.socket,
                verb,
                request.traceparent.clone(),
                None,
            )?)
            .map_err(Failure::Failed)
        };
        absent::without_daemon(&daemon.store, ask_daemon, |store| {
            absent::strike_all_but(store, &network, &keep)
        })
    }
}

fn done(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(
        code::IO_FAILURE,
        format!("the dhcp daemon's answer does not fit the question: {reply:?}"),
    )
}
