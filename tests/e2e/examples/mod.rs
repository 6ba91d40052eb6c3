//! `examples/conflists/`: every file there is used as it stands, by a test that is called after it.

mod host_access;
mod kubernetes;
mod nomad;
mod pools;
mod tuning;

use std::fs;
use std::path::{Path, PathBuf};

use lab::anyhow::{Context, ensure};
use lab::serde_json::{self, Value};
use lab::{Lan, Network, Result, Test, World, test};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        host_access::TESTS,
        kubernetes::TESTS,
        nomad::TESTS,
        pools::TESTS,
        tuning::TESTS,
        &[
            test!(every_example_has_a_test),
            test!(documentation_quotes_the_examples_verbatim),
        ],
    ]
    .concat()
}

/// The pages that show examples.
const DOCUMENTS: &[&str] = &[
    include_str!("../../../docs/addresses.md"),
    include_str!("../../../docs/bridges.md"),
    include_str!("../../../docs/host-access.md"),
    include_str!("../../../docs/networks.md"),
    include_str!("../../../docs/runtimes.md"),
];

/// The network of `examples/conflists/NAME.conflist`.
fn network<'a>(lan: &'a Lan, name: &str) -> Result<Network<'a>> {
    Ok(Network::new(&lan.host, conflist(name)?))
}

fn conflist(name: &str) -> Result<Value> {
    let path = folder().join(format!("{name}.conflist"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// In the checkout; or beside this program, where both were copied to another place.
fn folder() -> PathBuf {
    let below = |directory: &Path| directory.join("examples/conflists");
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(below(program.parent()?)));
    beside
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| below(Path::new(env!("CARGO_MANIFEST_DIR"))))
}

/// The examples' names and contents.
fn all() -> Result<Vec<(String, String)>> {
    let folder = folder();
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .context("a file has a name")?
            .to_string_lossy()
            .into_owned();
        ensure!(
            path.extension().is_some_and(|it| it == "conflist"),
            "{} is no conflist",
            path.display()
        );
        all.push((name, fs::read_to_string(&path)?));
    }
    Ok(all)
}

fn every_example_has_a_test(_: &World) -> Result {
    let tests: Vec<String> = tests()
        .iter()
        .filter_map(|test| test.name().rsplit("::").next().map(str::to_owned))
        .collect();
    let all = all()?;
    ensure!(!all.is_empty(), "no examples in {}", folder().display());
    for (name, _) in all {
        let prefix = format!("{}_", name.replace('-', "_"));
        ensure!(
            tests.iter().any(|test| test.starts_with(&prefix)),
            "{name}.conflist has no test here whose name begins with {prefix}"
        );
    }
    Ok(())
}

fn documentation_quotes_the_examples_verbatim(_: &World) -> Result {
    let all = all()?;
    for document in DOCUMENTS {
        let mut quotations = document
            .split("```json\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .peekable();
        ensure!(quotations.peek().is_some(), "a page without examples");
        for quoted in quotations {
            ensure!(
                all.iter().any(|(_, text)| text == quoted),
                "this is no example's text:\n{quoted}"
            );
        }
    }
    Ok(())
}
