//! The parent: which device of the host a macvlan sits on, and the VLAN on it.

mod choice;
mod names;
mod selection;
mod shared_vlan;
mod suitability;
mod vlan;

pub use choice::Parent;
pub use vlan::Vlan;

pub(crate) use selection::{find, matches_config};
pub(crate) use shared_vlan::{Detached, SharedVlan};
pub(crate) use suitability::{ensure_suitable, obstacles};
pub(crate) use vlan::INSTALL_DRIVER as INSTALL_VLAN_DRIVER;
