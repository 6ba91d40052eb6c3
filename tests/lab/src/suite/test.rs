use std::time::Duration;

use super::Package;
use crate::{
    Result, World,
    servers::{Kind, ServerTestFn},
};

/// A test function: what it needs of its world it makes there; an error or a panic fails it.
pub type TestFn = fn(&World) -> Result;

/// One test. Made by [`test!`](crate::test!).
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The module's path, and the crate's name before it.
    module: &'static str,
    function: &'static str,
    run: Run,
    needs: &'static [Package],
    pub(super) within: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Alone(TestFn),
    With(&'static Kind, ServerTestFn),
}

impl Test {
    /// A test of a module, as `module_path!` writes it.
    pub const fn new(module: &'static str, function: &'static str, run: TestFn) -> Test {
        Test::of(module, function, Run::Alone(run))
    }

    /// A test that is run with a server, which is installed for it.
    pub(crate) const fn with_server(
        module: &'static str,
        function: &'static str,
        run: ServerTestFn,
        kind: &'static Kind,
    ) -> Test {
        Test::of(module, function, Run::With(kind, run))
    }

    const fn of(module: &'static str, function: &'static str, run: Run) -> Test {
        Test {
            module,
            function,
            run,
            needs: &[],
            within: Duration::from_secs(60),
        }
    }

    /// Packages that must be installed, or the run fails.
    #[must_use]
    pub const fn needs(self, needs: &'static [Package]) -> Test {
        Test { needs, ..self }
    }

    /// The deadline on an idle machine (see [`deadline`](crate::deadline())), kept by the runner,
    /// for a test that needs another than a minute. Those with the longest start first.
    #[must_use]
    pub const fn within(self, within: Duration) -> Test {
        Test { within, ..self }
    }

    /// How the runner calls it: its path without the crate's name, the function's name preceded by
    /// the server's.
    pub fn name(&self) -> String {
        let function = match self.run {
            Run::Alone(_) => self.function.to_owned(),
            Run::With(kind, _) => format!("{}_{}", kind.name, self.function),
        };
        match self.module.split_once("::") {
            Some((_crate, module)) => format!("{module}::{function}"),
            None => function,
        }
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = Package> {
        let server = match self.run {
            Run::Alone(_) => None,
            Run::With(kind, _) => Some(kind.package),
        };
        self.needs.iter().copied().chain(server)
    }

    pub(super) fn run(&self, world: &World) -> Result {
        match self.run {
            Run::Alone(run) => run(world),
            Run::With(kind, run) => run(world, kind),
        }
    }
}

/// The [`Test`] of a function in this module, named after it.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::Test::new(module_path!(), stringify!($function), $function)
    };
}
