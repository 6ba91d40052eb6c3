//! Keys that are probably misspelt.

use serde_json::{Map, Value};

/// Warns about the [`misspelt_keys`] of a configuration, or of the part of it at `path`.
///
/// ```
/// let document = serde_json::from_str(r#"{ "masterr": "eth1", "MODE": "bridge", "x-note": "" }"#)?;
/// // Warns: there is no key "masterr"; did you mean "master"?
/// cni::go::warn_of_misspelt_keys("", &document, &["master", "mode"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn warn_of_misspelt_keys(path: &str, object: &Map<String, Value>, known: &[&str]) {
    for (key, meant) in misspelt_keys(object, known) {
        let key = match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        log::warn!("there is no key {key:?}; did you mean {meant:?}?");
    }
}

/// The keys of an object that are probably misspelt, each with the known one that is meant: unknown
/// ones that differ from a known one by a single letter, which is missing, added, replaced, or
/// swapped with its neighbour.
///
/// [`decode`](super::decode) ignores unknown keys, as it must: a configuration has keys for others.
/// Without a warning, the mistake would be silent.
pub fn misspelt_keys<'o, 'k>(
    object: &'o Map<String, Value>,
    known: &[&'k str],
) -> Vec<(&'o str, &'k str)> {
    let is_known = |key: &&str| known.iter().any(|known| key.eq_ignore_ascii_case(known));
    let meant = |key: &str| {
        let key = key.to_ascii_lowercase();
        let is_near = |known: &&&str| strsim::osa_distance(&key, &known.to_ascii_lowercase()) == 1;
        known.iter().find(is_near).copied()
    };
    let unknown = object
        .keys()
        .map(String::as_str)
        .filter(|key| !is_known(key));
    unknown
        .filter_map(|key| meant(key).map(|known| (key, known)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_misspelt_if_one_edit_makes_it_a_known_one() {
        let known = ["master", "mtu", "linkInContainer"];
        for (key, meant) in [
            ("masterr", Some("master")),
            ("mster", Some("master")),
            ("maater", Some("master")),
            ("amster", Some("master")),
            ("Masterr", Some("master")),
            ("linkIncontaner", Some("linkInContainer")),
            ("MASTER", None),
            ("maters1", None),
            ("parent", None),
        ] {
            let document = json!({ key: 1 });
            let misspelt = misspelt_keys(document.as_object().unwrap(), &known);
            assert_eq!(misspelt.first().map(|(_, known)| *known), meant, "{key}");
        }
    }
}
