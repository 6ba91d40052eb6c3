use cni::Attachment;
use linknet::{Mac, Macvlan};

use super::*;
use crate::testing::{device, macvlan};

const EPERM: i32 = 1;
const ENODEV: i32 = 19;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;

const OTHER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x17]);

/// A refusal of the kernel, with nothing in the way but what the fields say.
struct Case {
    config: Config,
    parent: Link,
    beside: Vec<Link>,
    inside: Vec<Link>,
    others: Vec<(Option<PathBuf>, Link)>,
}

impl Case {
    fn new() -> Case {
        Case {
            config: Config::default(),
            parent: device("eth1"),
            beside: Vec::new(),
            inside: Vec::new(),
            others: Vec::new(),
        }
    }

    fn diagnose(&self, errno: i32, text: Option<&str>) -> Diagnosis {
        let context = RefusalContext {
            config: &self.config,
            ifname: "eth0",
            mark: &OwnerMark::new(&Attachment::new("c1", "lan", "eth0").unwrap()),
            parent: &self.parent,
            beside: &self.beside,
            inside: &self.inside,
            others: &self.others,
        };
        diagnose(
            &linknet::Error::refusal("create macvlan eth0 on link 2", errno, text),
            &context,
        )
    }
}

fn passthru(name: &str) -> Link {
    let link = macvlan(name);
    let macvlan = link.macvlan.clone().map(|it| Macvlan {
        mode: Some(MacvlanMode::Passthru),
        ..it
    });
    Link { macvlan, ..link }
}

#[test]
fn a_port_of_a_bridge_or_bond_is_refused_with_the_device_to_use_instead() {
    for (kind, master) in [
        ("bridge", "br0"),
        ("bond", "bond0"),
        ("team", "team0"),
        ("openvswitch", "ovs-system"),
    ] {
        let case = Case {
            parent: Link {
                master: Some(4),
                port_kind: Some(kind.to_owned()),
                ..device("eth1")
            },
            beside: vec![
                device("eth1"),
                Link {
                    index: 4,
                    kind: Some(kind.to_owned()),
                    ..device(master)
                },
            ],
            ..Case::new()
        };
        let Diagnosis { error, temporary } = case.diagnose(EBUSY, None);
        assert_eq!((error.code, temporary), (7, false));
        let why = format!("eth1 is a port of {kind} {master}");
        assert!(
            error
                .msg
                .starts_with(&format!("cannot create macvlan eth0 on eth1: {why}")),
            "{error}"
        );
        assert!(
            error.details.contains(&format!("use {master} as master")),
            "{error}"
        );
        assert!(
            error.details.contains("EBUSY"),
            "the kernel's own words are there too: {error}"
        );
    }
}

#[test]
fn an_ipvlan_on_the_parent_is_named_where_it_is_visible() {
    let ipvlan = Link {
        index: 9,
        kind: Some("ipvlan".to_owned()),
        parent: Some(2),
        ..device("ipvl0")
    };
    let elsewhere = Link {
        index: 10,
        parent: Some(3),
        ..ipvlan.clone()
    };
    let seen = Case {
        beside: vec![elsewhere.clone(), ipvlan],
        ..Case::new()
    }
    .diagnose(EBUSY, None);
    assert!(
        seen.error.msg.contains("eth1 carries ipvlan ipvl0") && !seen.temporary,
        "{seen:?}"
    );
    let hidden = Case {
        beside: vec![elsewhere],
        ..Case::new()
    }
    .diagnose(EBUSY, None);
    assert!(
        hidden.error.details.contains("ipvlan on it?") && hidden.error.code == 7,
        "{hidden:?}"
    );
}

#[test]
fn a_mac_in_use_is_a_temporary_refusal() {
    let config = Config {
        mac: Some(OTHER_MAC),
        ..Config::default()
    };
    // Older kernels say EBUSY.
    for errno in [EADDRINUSE, EBUSY] {
        let case = Case {
            config: config.clone(),
            ..Case::new()
        };
        let Diagnosis { error, temporary } = case.diagnose(errno, None);
        assert_eq!((error.code, temporary), (11, true));
        assert!(
            error.msg.contains("02:00:00:00:00:17") && error.details.contains("still be removing"),
            "{error}"
        );
    }
    let holder = Link {
        mac: Some(OTHER_MAC),
        ..macvlan("net1")
    };
    let others = vec![(Some("/run/netns/c9".into()), holder)];
    let Diagnosis { error, .. } = Case {
        config,
        others,
        ..Case::new()
    }
    .diagnose(EADDRINUSE, None);
    assert!(
        error.msg.contains("net1 in /run/netns/c9 has MAC"),
        "{error}"
    );
}

#[test]
fn passthru_excludes_other_macvlans_and_they_exclude_it() {
    let wanted = Config {
        mode: MacvlanMode::Passthru,
        ..Config::default()
    };
    let others = vec![
        (None, macvlan("lh-eth1")),
        (Some("/run/netns/c9".into()), macvlan("eth0")),
    ];
    let refused = Case {
        config: wanted.clone(),
        others,
        ..Case::new()
    }
    .diagnose(EINVAL, None);
    assert!(
        refused
            .error
            .msg
            .contains("needs eth1 to itself, and there is lh-eth1, eth0 in /run/netns/c9"),
        "{refused:?}"
    );
    assert_eq!((refused.error.code, refused.temporary), (7, false));

    let others = vec![(Some("/run/netns/c9".into()), passthru("eth0"))];
    let refused = Case {
        others,
        ..Case::new()
    }
    .diagnose(EINVAL, None);
    assert!(
        refused
            .error
            .msg
            .contains("has eth1 to itself: eth0 in /run/netns/c9"),
        "{refused:?}"
    );
    assert_eq!((refused.error.code, refused.temporary), (7, false));

    for config in [wanted, Config::default()] {
        let unseen = Case {
            config,
            ..Case::new()
        }
        .diagnose(EINVAL, None);
        assert_eq!(
            (unseen.error.code, unseen.temporary),
            (11, true),
            "{unseen:?}"
        );
    }
}

#[test]
fn the_kernels_own_explanation_is_passed_on() {
    let Diagnosis { error, temporary } =
        Case::new().diagnose(EINVAL, Some("mtu less than device minimum"));
    assert_eq!((error.code, temporary), (7, false));
    assert!(
        error.details.contains("mtu less than device minimum"),
        "{error}"
    );
}

#[test]
fn the_owner_of_a_taken_name_is_named() {
    let veth = Link {
        kind: Some("veth".to_owned()),
        ..device("eth0")
    };
    let marked = Link {
        alias: Some("leasehold:eth0/c2/lan".to_owned()),
        ..macvlan("eth0")
    };
    let done = Link {
        alias: Some("leasehold:eth0/c1/lan".to_owned()),
        ..macvlan("eth0")
    };
    for (taker, words) in [
        (veth.clone(), "eth0 (veth) already exists"),
        (veth, "was not created for this attachment"),
        (macvlan("eth0"), "was not created for this attachment"),
        (marked, "belongs to another attachment"),
        (done, "DEL must be called first"),
    ] {
        let Diagnosis { error, temporary } = Case {
            inside: vec![taker],
            ..Case::new()
        }
        .diagnose(EEXIST, None);
        assert_eq!((error.code, temporary), (4, false));
        assert!(
            error.msg.contains("CNI_IFNAME") && error.msg.contains(words),
            "{error}"
        );
    }
}

#[test]
fn a_refusal_that_is_not_the_configurations_fault_has_its_own_code() {
    for (errno, code, word, temporary) in [
        (EPERM, codes::KERNEL, "CAP_NET_ADMIN", false),
        (EOPNOTSUPP, codes::NO_DRIVER, "no macvlan driver", false),
        (ENODEV, 11, "disappeared", true),
        (12, codes::KERNEL, "cannot create macvlan", false),
    ] {
        let diagnosis = Case::new().diagnose(errno, None);
        assert_eq!(
            (diagnosis.error.code, diagnosis.temporary),
            (code, temporary),
            "{diagnosis:?}"
        );
        let msg = &diagnosis.error.msg;
        assert!(msg.contains(word), "{diagnosis:?}");
        assert!(
            msg.starts_with("cannot create macvlan eth0 on eth1"),
            "{diagnosis:?}"
        );
    }
}
