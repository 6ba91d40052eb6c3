//! Warnings beside a lease, which the plugin writes to its stderr.

use serde_json::Value;

/// The field of a lease that has its warnings. It is not the specification's, and a plugin that
/// does not know it ignores it.
const KEY: &str = "leasehold/warnings";

/// Adds warnings to a lease, if there are any.
pub(crate) fn set_warnings(lease: &mut Value, warnings: Vec<String>) {
    if let Some(lease) = lease.as_object_mut().filter(|_| !warnings.is_empty()) {
        lease.insert(KEY.to_owned(), warnings.into());
    }
}

/// Removes the warnings from a lease, and returns them.
pub(crate) fn take_warnings(lease: &mut Value) -> Vec<String> {
    let warnings = lease
        .as_object_mut()
        .and_then(|lease| lease.remove(KEY))
        .and_then(|warnings| serde_json::from_value(warnings).ok());
    warnings.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_has_the_warnings_that_it_was_given_and_then_none() {
        let plain = json!({ "cniVersion": "1.1.0" });
        let mut lease = plain.clone();
        set_warnings(&mut lease, Vec::new());
        assert_eq!(lease, plain);
        let warnings = vec!["/8 is a guess".to_owned()];
        set_warnings(&mut lease, warnings.clone());
        assert_eq!(lease[KEY], json!(["/8 is a guess"]));
        assert_eq!(take_warnings(&mut lease), warnings);
        assert_eq!(lease, plain);
        lease[KEY] = json!(7);
        assert!(take_warnings(&mut lease).is_empty() && lease == plain);
    }
}
