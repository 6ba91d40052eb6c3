//! Taking up the leases that an earlier daemon has left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use cni::Error;
use dhcp4::Client;
use linknet::Netns;

use super::exchange::now;
use super::lease::Held;
use super::sockets::Sockets;
use super::table::{RETRY, Table, seed};
use crate::place::Gone;
use crate::store::{Record, Standing};

impl Table {
    /// Takes up every lease that an earlier daemon has left: good ones go on where they were, those
    /// of containers that are gone are remembered.
    pub(crate) fn resume(&self) -> std::io::Result<()> {
        for record in self.books.load()? {
            let attachment = record.attachment.clone();
            // Whatever there is about one lease, the others are taken up.
            match catch_unwind(AssertUnwindSafe(|| self.resume_one(record, None))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%attachment, %error, "a lease could not be taken up again");
                }
                Err(_) => tracing::error!(%attachment, "taking up a lease failed; this is a bug"),
            }
        }
        self.books.sweep();
        Ok(())
    }

    /// Takes up one lease as it is on disk. `kept` is the netns that was kept for it, if one was.
    pub(super) fn resume_one(&self, record: Record, kept: Option<Netns>) -> Result<(), Error> {
        let attachment = record.attachment.clone();
        if record.standing == Standing::Released {
            self.books.remember(record);
            return Ok(());
        }
        let config = self.config(&record.place, &record.terms);
        let client = match record.standing {
            Standing::Lost => Client::new(config, seed()?, now()),
            _ => Client::resume(config, seed()?, record.lease.clone(), now()),
        };
        let held = Held::resumed(client, record.clone(), kept);
        // Neither netns nor times mean anything after a reboot.
        let netns = if record.is_of_this_boot() {
            held.open()
        } else {
            Err(Gone::Netns)
        };
        match netns {
            Err(gone) if gone.is_certain() => {
                tracing::info!(%attachment, address = %record.lease.address, "lease not taken up: {gone}");
                if held.host_access() {
                    self.hosts_ways.close(&attachment);
                }
                self.books.remember(record.now(Standing::Left));
            }
            // The plugin struck it while no daemon ran, and the interface is still there to say so
            // from.
            Ok(netns) if record.standing == Standing::Left => {
                held.release(&mut Sockets::new(netns, held.place.ifindex));
                tracing::info!(%attachment, address = %record.lease.address, "address given back, late");
                self.books.remember(record.now(Standing::Released));
            }
            there => {
                tracing::info!(%attachment, address = %record.lease.address, "lease taken up again");
                if let Ok(netns) = &there
                    && record.standing == Standing::Lost
                {
                    held.clear(&attachment, netns, &record.lease);
                }
                let slot = self.slot(&attachment);
                let due = match there {
                    Err(_) => Some(now() + RETRY),
                    Ok(_) if held.is_bound() => held.due(),
                    // Whatever is due already is done first thing.
                    Ok(_) => Some(now()),
                };
                self.vanishing.watch(&held.place.path);
                self.lead(&attachment, &held);
                *slot.held.borrow_mut() = Some(Rc::new(held));
                self.set_alarm_at(&slot, due);
            }
        }
        Ok(())
    }
}
