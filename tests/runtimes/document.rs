//! The commands that the documentation tells people to run.

const DOCUMENT: &str = concat!(
    include_str!("../../README.md"),
    "\n",
    include_str!("../../docs/runtimes.md"),
    "\n",
    include_str!("../../docs/addresses.md"),
    "\n",
    include_str!("../../docs/networks.md")
);

/// The shell blocks below a heading, up to the next heading of the same rank.
pub(crate) fn commands(heading: &str) -> Vec<&'static str> {
    let section = DOCUMENT
        .split("\n## ")
        .find_map(|section| section.strip_prefix(heading))
        .unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}
