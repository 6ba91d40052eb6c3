//! leasehold's decisions about a container's attachment to a network, shared by its plugins.
//!
//! `cni` knows the specification and `linknet` knows the kernel; neither knows the other, nor
//! leasehold. Everything that both plugins must agree on is here:
//!
//! - [`OwnerMark`], [`SharedLink`] and [`PROTOCOL`]: how objects in the kernel show who made them.
//! - [`Plan`]: the addresses, routes and rules that follow from a CNI result. ADD applies a plan,
//!   CHECK compares one with the kernel, a renewed lease applies the difference of two.
//! - [`keep_routes`] and [`source_routing`]: the parts of a plan that `keepRoutes` and
//!   `sourceRouting` ask for.
//! - [`host_access`]: the host's own macvlan and its routes to containers (`hostAccess`).
//! - [`guard`]: rules that let the container speak only as itself (`guard`).
//! - [`HostLock`], [`ContainerLock`]: mutual exclusion between processes that change links which
//!   containers share, or attach one container.
//! - [`no_link`]: why nothing gets from a parent to the LAN.
//! - [`codes`]: leasehold's own error codes.

pub mod codes;
mod delegated_keys;
mod error;
pub mod guard;
pub mod host_access;
mod identity;
mod keys;
mod lifetime;
mod link_state;
mod lock;
mod ownership;
mod plan;
mod prefix;
mod shared_link;

pub use delegated_keys::DelegatedKeys;
pub use error::{KernelError, cannot_open_netns, differs, kernel_code};
pub use guard::Guard;
pub use identity::{stable_mac, stable_name};
pub use keys::SharedKeys;
pub use lifetime::{set_valid_lifetime, take_valid_lifetime};
pub use link_state::no_link;
pub use lock::{ContainerLock, HostLock, lock_within};
pub use ownership::{GUARDED_GROUP, OwnerMark, PROTOCOL, is_macvlan};
pub use plan::{Changes, LeftOut, Plan, Transition, gateways, keep_routes, source_routing};
pub use prefix::parse_prefix;
pub use shared_link::SharedLink;
pub use source_routing::SourceRouting;
