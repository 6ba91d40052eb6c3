//! The capabilities without which the daemon cannot do its work.

use rustix::thread::{CapabilitySet, capabilities};

/// Each with its name.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
];

/// Why the daemon cannot lease addresses, and what to do, if it lacks capabilities.
pub(crate) fn missing_capabilities() -> Option<String> {
    let missing = missing(capabilities(None).ok()?.effective);
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!(
            "the dhcp daemon cannot lease addresses without {missing}: start it as root, or as a \
             service with these capabilities"
        )
    })
}

fn missing(effective: CapabilitySet) -> Vec<&'static str> {
    let missing = NEEDED
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability));
    missing.map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capabilities_are_named() {
        assert_eq!(missing(CapabilitySet::all()), [""; 0]);
        assert_eq!(
            missing(CapabilitySet::all() - CapabilitySet::NET_RAW),
            ["CAP_NET_RAW"]
        );
        assert_eq!(missing(CapabilitySet::empty()).len(), NEEDED.len());
    }
}
