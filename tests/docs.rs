//! The documentation agrees with the code.
//!
//! Each key of the network configuration is described once, in the tables of
//! `docs/configuration.md`; each flag of the daemon once, in clap's definitions. The `--help`
//! texts, the man pages and the flags' table are generated from these:
//!
//! ```text
//! LEASEHOLD_WRITE_DOCS=1 cargo test --test docs
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "runtimes/document/blocks.rs"]
mod blocks;

/// Where the keys are described.
const REFERENCE: &str = "docs/configuration.md";

/// CNI's own keys, which the reference describes beside macvlan's.
const KEYS_OF_CNI: [&str; 2] = ["ipam", "dns"];

/// The width of the `--help` texts.
const WIDTH: usize = 80;

#[test]
fn the_reference_lists_exactly_the_keys_that_macvlan_takes() {
    let own = leasehold_macvlan::configuration_keys().iter().copied();
    let taken: BTreeSet<String> = own.chain(KEYS_OF_CNI).map(str::to_owned).collect();
    assert_eq!(names(&keys("Keys of macvlan")), taken);
}

#[test]
fn the_reference_lists_exactly_the_keys_that_dhcp_takes() {
    let mut documented = names(&keys("Keys of dhcp"));
    documented.extend(names(&keys("Entries")));
    let taken: BTreeSet<String> = leasehold_dhcp::configuration_keys().into_iter().collect();
    assert_eq!(documented, taken);
}

#[test]
fn the_driver_for_netavark_takes_exactly_the_keys_of_dhcp_as_options() {
    let documented = names(&keys("Keys of dhcp"));
    let taken = leasehold_macvlan::netavark::DHCP_KEYS.iter().copied();
    assert_eq!(
        taken.map(str::to_owned).collect::<BTreeSet<_>>(),
        documented
    );
}

/// A service's drop-in must hold wherever the program is.
#[test]
fn the_variable_that_a_drop_in_sets_is_one_that_the_unit_passes_to_the_daemon() {
    let unit = read("examples/systemd/cni-dhcp.service");
    let start = unit.lines().find(|line| line.starts_with("ExecStart="));
    assert!(start.is_some_and(|start| start.ends_with(" daemon -takeover $FLAGS")));
    assert!(unit.contains("\nEnvironment=FLAGS=\n"));
    let documented = read("docs/daemon.md");
    assert!(documented.contains("\nEnvironment=\"FLAGS=-verbose\"\n"));
    assert!(!documented.contains("ExecStart"));
}

#[test]
fn the_example_of_a_workflow_is_whole_and_runs_files_that_exist() {
    let workflow = read("examples/ci/workflow.yml");
    for part in [
        "\non: ",
        "\njobs:",
        "actions/checkout@",
        " leasehold\n",
        "cargo build ",
    ] {
        assert!(workflow.contains(part), "{part:?}");
    }
    let words = workflow.split_whitespace();
    let of_ours: Vec<&str> = words
        .filter_map(|word| word.strip_prefix("leasehold/"))
        .collect();
    let (programs, files): (Vec<&str>, Vec<&str>) = of_ours
        .into_iter()
        .partition(|path| path.starts_with("target/"));
    assert_eq!(programs, ["target/x86_64-unknown-linux-musl/release"]);
    assert!(workflow.contains("--target x86_64-unknown-linux-musl\n"));
    assert_eq!(files, ["examples/ci/lan-test.sh"]);
    for file in files {
        read(file);
    }
}

/// Sections whose shell blocks the tests of the runtimes run, in order.
const RUN: [(&str, &str); 21] = [
    ("README.md", "Install"),
    ("README.md", "Podman"),
    ("README.md", "containerd and nerdctl"),
    ("README.md", "cnitool"),
    ("docs/addresses.md", "With Podman 4"),
    ("docs/daemon.md", "The daemon"),
    ("docs/host-access.md", "When it does not work"),
    ("docs/networks.md", "Two networks with Podman"),
    ("docs/podman.md", "The driver"),
    ("docs/podman.md", "Options"),
    ("docs/podman.md", "Who assigns the addresses"),
    ("docs/podman.md", "Podman 4 with CNI"),
    ("docs/podman-proxy.md", "Switching"),
    ("docs/runtimes.md", "Debian 12 with the package"),
    ("docs/runtimes.md", "Debian 12 with the two files"),
    ("docs/runtimes.md", "Debian 13 with Podman and the package"),
    (
        "docs/runtimes.md",
        "Debian 13 with containerd and the package",
    ),
    (
        "docs/runtimes.md",
        "Debian 13 with containerd and the two files",
    ),
    ("docs/runtimes.md", "Fedora, with the RPM"),
    ("docs/runtimes.md", "In CI"),
    ("docs/troubleshooting.md", "Troubleshooting"),
];

/// Blocks that no test runs, by what they begin with, and why.
const NOT_RUN: [(&str, &str); 17] = [
    (
        "# /opt/cni/bin/dhcp daemon -podmansocket",
        "the end-to-end tests start the daemon so",
    ),
    (
        "# podman network create -d ",
        "Podman 5's own networks; netavark itself is run on them",
    ),
    (
        "kubectl apply",
        "there is no cluster; the pods of these manifests are run",
    ),
    ("# nerdctl run", "Debian does not have nerdctl"),
    (
        "# groupadd ",
        "adds a user's group; the socket's own tests use -group",
    ),
    (
        "$ /opt/cni/bin/dhcp status",
        "shows what the tests of `dhcp status` read",
    ),
    (
        "# /opt/cni/bin/dhcp leases",
        "shows what the tests of `dhcp leases` read",
    ),
    ("docker network create", "an example of what others write"),
    (
        "# docker network create",
        "the same, beside ours, which is run",
    ),
    ("$ cargo ", "the checkout's own tests, demo and benchmark"),
    ("$ LEASEHOLD_PLUGIN_DIR=", "the checkout's own tests"),
    (
        "# nsenter --net=/run/netns/web nft",
        "shows what guard's own tests read",
    ),
    ("# ip rule", "shows what sourceRouting's own tests read"),
    (
        "ip link set eth1.228 alias ''",
        "VLANs need a kernel with 8021q, as the virtual machine's",
    ),
    (
        "# systemctl disable --now cni-dhcp.socket",
        "the Go daemon is stopped, and takes over again; tests of the packages stop it",
    ),
    ("# mkdir -p /root/go-plugins", "keeps the Go plugins' files"),
    (
        "# /opt/cni/bin/dhcp adopt",
        "the command's own tests run it after the Go plugins",
    ),
];

#[test]
fn every_command_in_the_documentation_is_run_or_is_known_not_to_be() {
    let in_docs = fs::read_dir(root().join("docs")).expect("docs").flatten();
    let mut paths: BTreeSet<String> = in_docs
        .map(|file| format!("docs/{}", file.file_name().display()))
        .collect();
    paths.insert("README.md".to_owned());
    let known = blocks::DOCUMENTS.iter().map(|(path, _)| (*path).to_owned());
    assert_eq!(known.collect::<BTreeSet<_>>(), paths);

    let (mut run, mut not_run) = (BTreeSet::new(), BTreeSet::new());
    for block in blocks::blocks() {
        assert!(!block.language.is_empty(), "which language? {block:?}");
        if !["sh", "console"].contains(&block.language) {
            continue;
        }
        let section = (block.document, block.heading);
        let listed = NOT_RUN
            .iter()
            .find(|(start, _)| block.text.trim_start().starts_with(start));
        if let Some((start, _)) = listed {
            not_run.insert(*start);
        } else {
            assert!(
                block.language == "sh" && RUN.contains(&section),
                "no test runs this, and NOT_RUN does not say why: {block:?}"
            );
            run.insert(section);
        }
    }
    assert_eq!(run, BTreeSet::from(RUN), "a section without commands");
    let listed = NOT_RUN.map(|(start, _)| start);
    assert_eq!(not_run, BTreeSet::from(listed), "a block that is gone");
}

#[test]
fn what_is_generated_is_up_to_date() {
    for (path, text) in generated() {
        if is_writing() {
            fs::write(root().join(path), text).expect(path);
        } else {
            assert!(
                read(path) == text,
                "{path} is out of date: LEASEHOLD_WRITE_DOCS=1 cargo test --test docs"
            );
        }
    }
}

#[test]
fn help_shows_every_key_and_flag() {
    if is_writing() {
        return; // the programs were built before the texts were written
    }
    let help = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        String::from_utf8(output.expect("it runs").stdout).expect("it prints text")
    };
    let macvlan = help(env!("CARGO_BIN_EXE_macvlan"), &["--help"]);
    for Entry { name, .. } in keys("Keys of macvlan") {
        assert!(
            macvlan.contains(&format!("\n  {name} ")),
            "{name}: {macvlan}"
        );
    }
    let dhcp = help(env!("CARGO_BIN_EXE_dhcp"), &["--help"]);
    for Entry { name, .. } in keys("Keys of dhcp") {
        assert!(dhcp.contains(&format!("\n  {name} ")), "{name}: {dhcp}");
    }
    let daemon = help(env!("CARGO_BIN_EXE_dhcp"), &["daemon", "--help"]);
    for Entry { name, .. } in flags() {
        assert!(daemon.contains(&format!("--{name}")), "{name}: {daemon}");
    }
    assert!(daemon.lines().all(|line| line.len() <= 100), "{daemon}");
}

#[test]
fn every_command_that_help_shows_is_in_the_man_page_and_on_the_daemons_page() {
    let help = Command::new(env!("CARGO_BIN_EXE_dhcp"))
        .arg("--help")
        .output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("it prints text");
    let commands = help.lines().filter_map(|line| line.strip_prefix("  dhcp "));
    let commands: Vec<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"daemon"), "{help}");
    let (man, page) = (read("packaging/man/cni-dhcp.8"), read("docs/daemon.md"));
    for command in commands {
        assert!(
            man.contains(&format!("\n.Nm dhcp Cm {command}\n")),
            "{command}"
        );
        assert!(man.contains(&format!("\n.It Cm {command}\n")), "{command}");
        assert!(page.contains(&format!("dhcp {command}")), "{command}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
            let linked = match file {
                "" => root().join(&page),
                file => root().join(folder).join(file),
            };
            assert!(linked.exists(), "{page} links to {target}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(linked).expect("a page is text");
                let mut anchors = text.lines().filter_map(anchor_of);
                assert!(
                    anchors.any(|known| known == anchor),
                    "{page} links to {target}"
                );
            }
        }
    }
}

/// The README shows the demo's output, in parts. Numbers change with each run, and the rest is in the
/// demo's own texts.
#[test]
fn the_sample_of_the_demo_is_what_the_demo_prints() {
    let demo = read("examples/demo.rs");
    let templates: Vec<String> = literals(&demo).collect();
    let readme = read("README.md");
    let (_, sample) = readme
        .split_once("$ cargo run --release --example demo\n")
        .expect("a sample");
    let (sample, _) = sample.split_once("```").expect("it ends");
    let lines: Vec<&str> = sample
        .lines()
        .filter(|it| !matches!(*it, "" | "…"))
        .collect();
    for line in &lines {
        let is_printed = templates.iter().any(|template| fits(line, template));
        assert!(is_printed, "the demo prints no line like {line:?}");
    }
    for heading in [
        "The LAN:",
        "The daemon:",
        "ADD:",
        "RENEWAL:",
        "DEL:",
        "Everything",
    ] {
        assert!(demo.contains(heading), "{heading}");
        let is_shown = lines.iter().any(|line| line.starts_with(heading));
        assert!(is_shown, "the README does not show {heading:?}");
    }
}

/// The string literals of a program, as they are written, without the line feeds around them.
fn literals(program: &str) -> impl Iterator<Item = String> {
    let quoted = program.split('"').skip(1).step_by(2);
    quoted.map(|literal| literal.replace("\\n", "").trim_end().to_owned())
}

/// Whether a line can come from a template, which has something in braces for each value.
fn fits(line: &str, template: &str) -> bool {
    let mut fixed = template.split('{').map(|part| match part.split_once('}') {
        Some((_, fixed)) => fixed,
        None => part,
    });
    let Some(mut rest) = line.strip_prefix(fixed.next().unwrap_or_default()) else {
        return false;
    };
    let mut length = 0;
    for part in fixed {
        let Some(place) = rest.find(part) else {
            return false;
        };
        length += part.trim().len();
        rest = &rest[place + part.len()..];
    }
    // A template of values alone would fit every line: it must be a table's, with as many columns.
    let columns = line.split("  ").filter(|it| !it.is_empty()).count();
    let values = template.matches('{').count();
    line == template || length > 0 || (values > 2 && values == columns)
}

#[test]
fn the_index_lists_every_page() {
    let index = read("docs/README.md");
    for page in pages() {
        let name = page
            .strip_prefix("docs/")
            .filter(|name| *name != "README.md");
        if let Some(name) = name {
            assert!(links(&index).any(|link| link == name), "{name}");
        }
    }
}

/// A key or a flag with its description.
#[derive(Clone)]
struct Entry {
    name: String,
    /// What the value of a flag is called.
    value: Option<String>,
    /// Empty: there is none.
    default: String,
    /// Whole sentences, in Markdown.
    meaning: String,
}

/// The rows of the table below a heading of the reference.
fn keys(heading: &str) -> Vec<Entry> {
    let reference = read(REFERENCE);
    let rows: Vec<Entry> = reference
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let (default, meaning) = match cells[..] {
                [_, meaning] => ("", meaning),
                [_, default, meaning] => (default, meaning),
                _ => panic!("a row of another form: {row}"),
            };
            Entry {
                name: cells[0].trim_end_matches('`').to_owned(),
                value: None,
                default: default.to_owned(),
                meaning: meaning.to_owned(),
            }
        })
        .collect();
    assert!(!rows.is_empty(), "{REFERENCE} has no table below {heading}");
    rows
}

/// The daemon's flags.
fn flags() -> Vec<Entry> {
    let mut command = leasehold_dhcp::daemon_command();
    command.build();
    command
        .get_arguments()
        .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        .map(|argument| {
            let takes_value = argument
                .get_num_args()
                .is_some_and(|count| count.min_values() > 0);
            let default = argument.get_default_values().first();
            Entry {
                name: argument.get_long().unwrap_or_default().to_owned(),
                value: argument
                    .get_value_names()
                    .filter(|_| takes_value)
                    .map(|names| names[0].to_string()),
                default: default
                    .filter(|_| takes_value)
                    .map(|value| value.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                meaning: format!("{}.", argument.get_help().expect("each has a help text")),
            }
        })
        .collect()
}

fn names(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().map(|entry| entry.name.clone()).collect()
}

/// Whether to write what is generated, rather than to compare it.
fn is_writing() -> bool {
    std::env::var_os("LEASEHOLD_WRITE_DOCS").is_some_and(|value| value == "1")
}

/// The files that are generated, or in part, and what is to be in them.
fn generated() -> Vec<(&'static str, String)> {
    const MACVLAN: &str = "packaging/man/cni-macvlan.8";
    const DHCP: &str = "packaging/man/cni-dhcp.8";
    const DAEMON: &str = "docs/daemon.md";
    let (macvlan, dhcp, flags) = (keys("Keys of macvlan"), keys("Keys of dhcp"), flags());
    let with_entries = [dhcp.clone(), keys("Entries")].concat();
    let man_of_dhcp = insert(&read(DHCP), "flags", &man_text("Fl", &flags));
    vec![
        ("plugins/macvlan/src/keys.txt", help_text(&macvlan)),
        ("plugins/dhcp/src/keys.txt", help_text(&dhcp)),
        (
            MACVLAN,
            insert(&read(MACVLAN), "keys", &man_text("Cm", &macvlan)),
        ),
        (
            DHCP,
            insert(&man_of_dhcp, "keys", &man_text("Cm", &with_entries)),
        ),
        (DAEMON, insert(&read(DAEMON), "flags", &table(&flags))),
    ]
}

/// Replaces what stands between the lines that hold `generated: PART` and `end of PART`.
fn insert(text: &str, part: &str, new: &str) -> String {
    let (begin, end) = (format!("generated: {part}"), format!("end of {part}"));
    let mut lines = text.lines();
    let mut result = String::new();
    for line in lines.by_ref() {
        result.push_str(line);
        result.push('\n');
        if line.contains(&begin) {
            result.push_str(new);
            break;
        }
    }
    for line in lines.skip_while(|line| !line.contains(&end)) {
        result.push_str(line);
        result.push('\n');
    }
    assert!(result.contains(&end), "no lines say {begin:?} and {end:?}");
    result
}

/// For `--help`: a column of names, and the first sentence about each.
fn help_text(entries: &[Entry]) -> String {
    let column = entries.iter().map(|entry| entry.name.len()).max();
    let column = column.unwrap_or_default();
    let mut text = String::new();
    for Entry {
        name,
        default,
        meaning,
        ..
    } in entries
    {
        let sentence = sentences(meaning)[0].trim_end_matches('.');
        let words = format!("{sentence} (default: {default})").replace('`', "");
        let mut line = format!("  {name:column$} ");
        for word in words.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(column + 3);
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// For a man page: list items of mdoc(7), a sentence a line.
fn man_text(macro_of_name: &str, entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry {
        name,
        value,
        default,
        meaning,
    } in entries
    {
        let _ = write!(text, ".It {macro_of_name} {name}");
        if let Some(value) = value {
            let _ = write!(text, " Ar {}", value.to_lowercase());
        }
        text.push('\n');
        let mut lines: Vec<String> = sentences(meaning).into_iter().map(str::to_owned).collect();
        if !default.is_empty() {
            lines.push(format!("Default: {default}."));
        }
        for line in lines {
            // Every second part is code.
            for (index, part) in line.replace('\\', "\\e").split('`').enumerate() {
                match index % 2 {
                    0 => text.push_str(part),
                    _ => {
                        let _ = write!(text, "\\fB{}\\fR", part.replace('-', "\\-"));
                    }
                }
            }
            text.push('\n');
        }
    }
    text
}

/// A table in Markdown.
fn table(entries: &[Entry]) -> String {
    let mut text = String::from("\n| flag | default | meaning |\n|---|---|---|\n");
    for Entry {
        name,
        value,
        default,
        meaning,
    } in entries
    {
        let value = value
            .as_ref()
            .map(|value| format!(" {value}"))
            .unwrap_or_default();
        let default = match default.as_str() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(text, "| `-{name}{value}` | {default} | {meaning} |");
    }
    text.push('\n');
    text
}

/// Without those that link to another page.
fn sentences(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut all = Vec::new();
    while let Some(end) = rest.find(". ") {
        all.push(&rest[..=end]);
        rest = &rest[end + 2..];
    }
    all.push(rest);
    all.retain(|sentence| !sentence.contains("]("));
    all
}

/// The pages for people, as paths below the root.
fn pages() -> Vec<String> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect(folder);
        let names = entries.map(|entry| entry.expect(folder).file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    let top = in_folder(".");
    let docs = in_folder("docs")
        .into_iter()
        .map(|name| format!("docs/{name}"));
    let mut pages: Vec<String> = top.into_iter().chain(docs).collect();
    pages.retain(|name| name.ends_with(".md"));
    pages
}

/// Where the links of a page lead that stay in the repository.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
}

/// How links name the heading in this line, if it is one.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line
        .strip_prefix('#')?
        .trim_start_matches('#')
        .strip_prefix(' ')?;
    let kept = heading.to_lowercase().replace(
        |c: char| !c.is_alphanumeric() && !matches!(c, ' ' | '-' | '_'),
        "",
    );
    Some(kept.replace(' ', "-"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
