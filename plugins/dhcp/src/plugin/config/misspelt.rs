//! Keys of the section, and of the entries of its lists, that are probably misspelt.

use cni::go;
use serde_json::{Map, Value};

use super::{entry_keys, known_keys};

/// The keys that are probably misspelt, each as its path in the section, with the key that is meant.
pub(super) fn keys(section: &Map<String, Value>) -> Vec<(String, &'static str)> {
    let known = [known_keys(), vec!["type"]].concat();
    let mut found: Vec<_> = go::misspelt_keys(section, &known)
        .into_iter()
        .map(|(key, meant)| (key.to_owned(), meant))
        .collect();
    for (list, known) in entry_keys() {
        let entries = go::get(section, list).and_then(Value::as_array);
        for (i, entry) in entries.into_iter().flatten().enumerate() {
            let misspelt = entry
                .as_object()
                .map(|entry| go::misspelt_keys(entry, known));
            let in_entry = misspelt.into_iter().flatten();
            found.extend(in_entry.map(|(key, meant)| (format!("{list}[{i}].{key}"), meant)));
        }
    }
    found
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
