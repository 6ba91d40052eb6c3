//! The lab: a world of its own for every end-to-end test, for the demo and for the benchmark.
//!
//! ```text
//!  netns "host"                      netns "lan"
//!  ┌──────────────────────────┐      ┌─────────────────────────────┐
//!  │ plugins and daemon       │ veth │ eth0 10.99.0.1/24           │
//!  │ under test          eth1─┼──────┼─eth0                        │
//!  └──────────────────────────┘      │ DhcpServer, dnsmasq, Kea, … │
//!    further netns: containers       └─────────────────────────────┘
//! ```
//!
//! [`world::enter`] makes the namespaces (as root or as an ordinary user, nothing on the machine is
//! touched), [`Lan`] the network in them, [`suite`] runs each test in a world of its own, and the
//! rest are the parts that a test puts there: [`plugin`] calls, the [`Daemon`], the scriptable
//! [`DhcpServer`] and real [`servers`].
//!
//! With `LAB_KEEP=1` a failed test's world stays, and the failure names the command that enters it.
//! Deadlines are those of an idle machine, multiplied by a factor that the runner measures or
//! `LAB_SLOWDOWN` sets ([`deadline`](deadline())).

pub mod arp_watch;
pub mod crash_injector;
pub mod daemon;
mod deadline;
pub mod dhcp_server;
pub mod fault_injector;
pub mod frames;
mod lan;
mod links;
mod named_netns;
pub mod netavark;
pub mod network;
mod packet_socket;
mod ping;
pub mod plugin;
mod process;
pub mod servers;
pub mod suite;
mod until;
pub mod world;

pub use arp_watch::ArpWatch;
pub use crash_injector::CrashInjector;
pub use daemon::Daemon;
pub use deadline::deadline;
pub use dhcp_server::DhcpServer;
pub use fault_injector::{FaultInjector, Threads};
pub use lan::{Lan, Node};
pub use netavark::Netavark;
pub use network::{Attachment, Network};
pub use process::Process;
pub use suite::{Suite, Test};
pub use until::{Condition, until};
pub use world::World;

/// What a test and most helpers return: `?` on anything, with context where it helps the reader.
pub type Result<T = ()> = anyhow::Result<T>;

/// The exit status of a program that does one thing. Prints the error, if there is one.
pub fn exit_code(outcome: Result) -> std::process::ExitCode {
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

pub use {anyhow, dhcproto, serde_json};
