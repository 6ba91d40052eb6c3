//! Projects that run the Go plugins in a way of their own, and can run these instead: what they
//! pass, and what they do around it, is as in their sources.

mod adopt;
mod halfway;
mod host_prefix;
mod multus;
mod nerdctl;
mod nomad;
mod openperouter;
mod ovn_kubernetes;
mod pods;

use lab::Test;

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        adopt::TESTS,
        halfway::TESTS,
        host_prefix::TESTS,
        multus::TESTS,
        nerdctl::TESTS,
        nomad::TESTS,
        openperouter::TESTS,
        ovn_kubernetes::TESTS,
        pods::TESTS,
    ]
    .concat()
}
