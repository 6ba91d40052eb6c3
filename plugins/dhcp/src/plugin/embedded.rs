//! The plugin as a part of another program, which saves a process for each call. It asks a daemon
//! that answers, and leaves everything else to the executable.

use std::cell::Cell;
use std::time::Duration;

use cni::{Answer, Env, Error, Request};

use super::Dhcp;
use super::absence::Absence;
use super::client::{Failure, ask_to};
use super::offline::Ending;
use crate::config::DaemonLocation;
use crate::protocol::{Reply, Verb};

/// Serves a call if a daemon answers. Returns `None` otherwise; nothing was done then.
pub(crate) fn ask_daemon(env: &Env, stdin: &[u8]) -> Option<Answer> {
    let plugin = Dhcp::<Embedded>::default();
    let mut answer = Answer::default();
    let status = cni::run(&plugin, env, stdin, &mut answer.stdout, &mut answer.stderr);
    answer.is_success = status == 0;
    (!plugin.absence.is_met.get()).then_some(answer)
}

#[derive(Default)]
struct Embedded {
    /// Whether no daemon has answered.
    is_met: Cell<bool>,
}

impl Embedded {
    /// Notes whether the daemon is absent.
    fn note<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let is_absent = matches!(
            outcome,
            Err(Failure::NoDaemon(_)
                | Failure::DaemonExited(_)
                | Failure::GoDaemon(_)
                | Failure::Stranger(_))
        );
        self.is_met.set(is_absent);
        outcome
    }
}

impl Absence for Embedded {
    fn add(
        &self,
        _: &DaemonLocation,
        _: Duration,
        ask: &dyn Fn(Duration) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        self.note(ask(Duration::ZERO))
    }

    fn check(
        &self,
        _: &DaemonLocation,
        ask: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.note(ask())
    }

    fn end(
        &self,
        daemon: &DaemonLocation,
        request: &Request,
        verb: &Verb,
        _: Ending<'_>,
    ) -> Result<(), Error> {
        let outcome = ask_to(&daemon.socket, verb.clone(), request.traceparent.clone());
        Ok(self.note(outcome)?)
    }
}
