//! Links for unit tests.

use linknet::{Link, Mac, Macvlan, MacvlanMode, OperState};

/// The MAC of [`device`].
pub(crate) const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// A physical Ethernet device with number 2, up, with a carrier.
pub(crate) fn device(name: &str) -> Link {
    Link {
        index: 2,
        name: name.to_owned(),
        alt_names: Vec::new(),
        alias: None,
        group: 0,
        mac: Some(MAC),
        mtu: 1500,
        max_mtu: None,
        up: true,
        running: true,
        carrier: true,
        loopback: false,
        promiscuous: false,
        promiscuity: 0,
        state: OperState::Up,
        kind: None,
        parent: None,
        parent_netnsid: None,
        master: None,
        port_kind: None,
        macvlan: None,
        vlan: None,
    }
}

/// A macvlan in mode bridge on number 2.
pub(crate) fn macvlan(name: &str) -> Link {
    Link {
        index: 7,
        mac: Some(Mac([0x02, 0, 0, 0, 0, 7])),
        kind: Some("macvlan".to_owned()),
        parent: Some(2),
        macvlan: Some(Macvlan {
            mode: Some(MacvlanMode::Bridge),
            nopromisc: false,
            nodst: false,
            sources: Vec::new(),
            bc_queue_len: None,
            bc_queue_len_used: None,
            bc_cutoff: None,
        }),
        ..device(name)
    }
}
