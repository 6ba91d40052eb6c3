//! The result of ADD (spec §5, "Success"): the model, and its documents in every version.
//!
//! The model has the shape of version 1.1.0. Plugins work with the model alone; `read` and `write`
//! know how the versions differ.

mod model;
mod read;
mod write;

pub use model::{CniResult, Dns, Interface, IpConfig, Route};
pub(crate) use read::{dns, result as read};

#[cfg(test)]
mod tests;
