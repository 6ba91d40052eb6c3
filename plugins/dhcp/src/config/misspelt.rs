//! Unknown keys of the section, and of the entries of its lists; some are probably misspelt.

use cni::go;
use serde_json::{Map, Value};

use super::{entry_keys, known_keys};

/// The keys that are probably misspelt, each as its path in the section, with the key that is meant.
pub(super) fn keys(section: &Map<String, Value>) -> Vec<(String, &'static str)> {
    let unknown = unknown_keys(section).into_iter();
    unknown
        .filter_map(|(key, meant)| Some((key, meant?)))
        .collect()
}

/// The keys that are none of the section's, each as its path in the section, with the key that is
/// probably meant.
pub(super) fn unknown_keys(section: &Map<String, Value>) -> Vec<(String, Option<&'static str>)> {
    let known = [known_keys(), vec!["type"]].concat();
    let mut found = unknown_in(section, "", &known);
    for (list, known) in entry_keys() {
        let entries = go::get(section, list).and_then(Value::as_array);
        for (i, entry) in entries.into_iter().flatten().enumerate() {
            let entry = entry.as_object().into_iter();
            found
                .extend(entry.flat_map(|entry| unknown_in(entry, &format!("{list}[{i}]."), known)));
        }
    }
    found
}

/// The unknown keys of the object at this path, each with the key that is probably meant.
pub(super) fn unknown_in(
    object: &Map<String, Value>,
    path: &str,
    known: &[&'static str],
) -> Vec<(String, Option<&'static str>)> {
    let misspelt = go::misspelt_keys(object, known);
    let meant = |key: &str| misspelt.iter().find(|(it, _)| *it == key);
    let is_unknown = |key: &&String| !known.iter().any(|known| key.eq_ignore_ascii_case(known));
    let unknown = object.keys().filter(is_unknown);
    unknown
        .map(|key| (format!("{path}{key}"), meant(key).map(|(_, meant)| *meant)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_key_of_an_entry_is_found_too() {
        let section = json!({
            "suppres": [], "Routes": [{ "dst": "10.0.0.0/8", "GWW": "10.0.0.1" }],
            "provide": [{ "option": 60, "value": "x" }, { "option": 60, "vaule": "x" }],
            "request": [{ "skipDefaults": true }, "60", { "note": "" }],
        });
        let section = section.as_object().expect("an object");
        let mut found = keys(section);
        found.sort_unstable();
        let expected = [
            ("provide[1].vaule", "value"),
            ("request[0].skipDefaults", "skipDefault"),
            ("routes[0].GWW", "gw"),
            ("suppres", "suppress"),
        ];
        assert_eq!(found, expected.map(|(key, meant)| (key.to_owned(), meant)));
    }
}
