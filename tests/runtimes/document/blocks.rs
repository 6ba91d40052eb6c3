//! The commands in the documents that users read.

macro_rules! documents {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// Each document's path and text.
pub(crate) const DOCUMENTS: &[(&str, &str)] = documents!(
    "README.md",
    "docs/README.md",
    "docs/addresses.md",
    "docs/bridges.md",
    "docs/configuration.md",
    "docs/daemon.md",
    "docs/errors.md",
    "docs/go-plugins.md",
    "docs/guard.md",
    "docs/host-access.md",
    "docs/limits.md",
    "docs/modes.md",
    "docs/networks.md",
    "docs/parents.md",
    "docs/podman.md",
    "docs/podman-proxy.md",
    "docs/protocol.md",
    "docs/runtimes.md",
    "docs/troubleshooting.md",
    "docs/vlans.md",
);

/// A fenced block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) document: &'static str,
    /// The nearest heading above it.
    pub(crate) heading: &'static str,
    pub(crate) language: &'static str,
    pub(crate) text: &'static str,
}

/// All blocks of all documents, in order.
pub(crate) fn blocks() -> Vec<Block> {
    let of = |&(document, text): &(&'static str, &'static str)| {
        let mut blocks = Vec::new();
        let mut heading = "";
        for (number, part) in text.split("```").enumerate() {
            if number % 2 == 0 {
                let mut headings = part.lines().filter(|line| line.starts_with('#'));
                heading = headings
                    .next_back()
                    .map_or(heading, |line| line.trim_start_matches('#').trim());
            } else {
                let (language, text) = part.split_once('\n').unwrap_or((part, ""));
                blocks.push(Block {
                    document,
                    heading,
                    language,
                    text,
                });
            }
        }
        blocks
    };
    DOCUMENTS.iter().flat_map(of).collect()
}
