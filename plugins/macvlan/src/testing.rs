//! Links for unit tests.

use linknet::{Link, Mac, Macvlan, MacvlanMode, OperState};

/// The MAC of [`device`].
pub(crate) const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// A physical Ethernet device with index 2, up, with a carrier.
pub(crate) fn device(name: &str) -> Link {
    Link {
        index: 2,
        name: name.to_owned(),
        mac: Some(MAC),
        mtu: 1500,
        up: true,
        running: true,
        carrier: true,
        state: OperState::Up,
        ..Link::default()
    }
}

/// A macvlan in mode bridge on the link with index 2.
pub(crate) fn macvlan(name: &str) -> Link {
    Link {
        index: 7,
        mac: Some(Mac([0x02, 0, 0, 0, 0, 7])),
        kind: Some("macvlan".to_owned()),
        parent: Some(2),
        macvlan: Some(Macvlan {
            mode: Some(MacvlanMode::Bridge),
            ..Macvlan::default()
        }),
        ..device(name)
    }
}
