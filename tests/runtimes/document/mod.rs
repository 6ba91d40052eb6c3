//! The commands that the documentation tells people to run.

mod blocks;

use blocks::blocks;

/// The shell blocks below a document's heading that begins so.
pub(crate) fn commands(document: &str, heading: &str) -> Vec<&'static str> {
    blocks()
        .into_iter()
        .filter(|block| {
            block.document == document
                && block.heading.starts_with(heading)
                && block.language == "sh"
        })
        .map(|block| block.text)
        .collect()
}
