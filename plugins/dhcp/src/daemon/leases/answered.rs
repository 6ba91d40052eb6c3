//! What netavark is answered of a lease.

use std::path::{Path, PathBuf};

use cni::{Attachment, CniResult};
use dhcp4::Lease;

use super::table::Table;

impl Table {
    /// The attachment's lease, if it has one.
    pub(crate) fn lease(&self, attachment: &Attachment) -> Option<Lease> {
        self.leased(attachment)?.1.granted()
    }

    /// The attachment's lease as a CNI result, if it has one.
    pub(crate) fn result(&self, attachment: &Attachment) -> Option<CniResult> {
        self.leased(attachment)?.1.result()
    }

    /// A path on the host, as the daemon sees it.
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        self.flags.on_host(path)
    }
}
