//! Taking up the leases that an earlier daemon has left.

use std::rc::Rc;

use cni::Error;
use dhcp4::Client;

use super::exchange::now;
use super::lease::Held;
use super::sockets::Sockets;
use super::table::{Table, seed};
use crate::place::Gone;
use crate::store::{Record, Standing};

impl Table {
    /// Takes up every lease that an earlier daemon has left: good ones go on where they were, those of containers
    /// that are gone are remembered.
    pub(crate) fn resume(&self) -> std::io::Result<()> {
        for record in self.books.load()? {
            if let Err(error) = self.resume_one(record) {
                tracing::error!(%error, "a lease could not be taken up again");
            }
        }
        self.books.sweep();
        Ok(())
    }

    /// Takes up one lease as it is on disk.
    pub(super) fn resume_one(&self, record: Record) -> Result<(), Error> {
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
        let held = Held::resumed(client, record.clone());
        // Neither netns nor times mean anything after a reboot.
        let netns = if record.is_of_this_boot() { held.open() } else { Err(Gone::Netns) };
        match netns {
            Err(gone) => {
                tracing::info!(%attachment, address = %record.lease.address, "lease not taken up: {gone}");
                self.books.remember(record.now(Standing::Left));
            }
            // The plugin struck it while no daemon ran, and the interface is still there to say so from.
            Ok(netns) if record.standing == Standing::Left => {
                held.release(&mut Sockets::new(netns, held.place.ifindex));
                tracing::info!(%attachment, address = %record.lease.address, "address given back, late");
                self.books.remember(record.now(Standing::Released));
            }
            Ok(_) => {
                tracing::info!(%attachment, address = %record.lease.address, "lease taken up again");
                let slot = self.slot(&attachment);
                // Whatever is due already is done first thing.
                let due = if held.is_bound() { held.due() } else { Some(now()) };
                self.vanishing.watch(&held.place.path);
                *slot.held.borrow_mut() = Some(Rc::new(held));
                self.set_alarm_at(&slot, due);
            }
        }
        Ok(())
    }
}
