use linknet::{Mac, Macvlan};

use super::*;
use crate::testing::{MAC, device, macvlan};

const EPERM: i32 = 1;
const ENODEV: i32 = 19;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;

const OTHER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x17]);

/// The diagnosis of a refusal with this number, where nothing is in the way but what `set` says.
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
        let scene = Scene {
            config: &self.config,
            ifname: "eth0",
            mark: &Mark::new("eth0", "c1", "lan"),
            parent: &self.parent,
            beside: &self.beside,
            inside: &self.inside,
            others: &self.others,
        };
        of_creation(
            &linknet::Error::refusal("create macvlan eth0 on link 2", errno, text),
            &scene,
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
fn a_port_of_a_bridge_or_bond_names_the_device_to_use() {
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
        let Diagnosis { error, passing } = case.diagnose(EBUSY, None);
        assert_eq!((error.code, passing), (7, false));
        assert!(
            error
                .msg
                .contains(&format!("eth1 is a port of {kind} {master}")),
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
fn an_ipvlan_in_the_way_is_named_where_it_can_be_seen() {
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
        seen.error.msg.contains("eth1 carries ipvlan ipvl0") && !seen.passing,
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
fn a_mac_in_use_may_be_free_in_a_moment() {
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
        let Diagnosis { error, passing } = case.diagnose(errno, None);
        assert_eq!((error.code, passing), (11, true));
        assert!(
            error.msg.contains("02:00:00:00:00:17") && error.details.contains("on its way out"),
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
fn passthru_is_exclusive_both_ways() {
    let wanted = Config {
        mode: MacvlanMode::Passthru,
        ..Config::default()
    };
    let others = vec![
        (None, macvlan("shim")),
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
            .contains("needs eth1 to itself, and there is shim, eth0 in /run/netns/c9"),
        "{refused:?}"
    );
    assert_eq!((refused.error.code, refused.passing), (7, false));

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
    assert_eq!((refused.error.code, refused.passing), (7, false));

    for config in [wanted, Config::default()] {
        let unseen = Case {
            config,
            ..Case::new()
        }
        .diagnose(EINVAL, None);
        assert_eq!(
            (unseen.error.code, unseen.passing),
            (11, true),
            "{unseen:?}"
        );
    }
}

#[test]
fn what_the_kernel_explains_itself_is_passed_on() {
    let Diagnosis { error, passing } =
        Case::new().diagnose(EINVAL, Some("mtu less than device minimum"));
    assert_eq!((error.code, passing), (7, false));
    assert!(
        error.details.contains("mtu less than device minimum"),
        "{error}"
    );
}

#[test]
fn a_taken_name_is_said_to_be_whose() {
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
    for (there, words) in [
        (veth, "eth0 (veth) exists"),
        (marked, "is another attachment's"),
        (done, "DEL must come before another"),
    ] {
        let Diagnosis { error, passing } = Case {
            inside: vec![there],
            ..Case::new()
        }
        .diagnose(EEXIST, None);
        assert_eq!((error.code, passing), (4, false));
        assert!(
            error.msg.contains("CNI_IFNAME") && error.msg.contains(words),
            "{error}"
        );
    }
}

#[test]
fn what_is_not_the_configurations_fault_has_a_code_of_its_own() {
    for (errno, code, word, passing) in [
        (EPERM, codes::KERNEL, "CAP_NET_ADMIN", false),
        (EOPNOTSUPP, codes::NO_DRIVER, "no macvlan driver", false),
        (ENODEV, 11, "disappeared", true),
        (12, codes::KERNEL, "could not be made", false),
    ] {
        let diagnosis = Case::new().diagnose(errno, None);
        assert_eq!(
            (diagnosis.error.code, diagnosis.passing),
            (code, passing),
            "{diagnosis:?}"
        );
        assert!(diagnosis.error.msg.contains(word), "{diagnosis:?}");
    }
}

#[test]
fn what_can_never_be_a_parent_is_refused_beforehand() {
    let tunnel = Link {
        mac: None,
        kind: Some("wireguard".to_owned()),
        ..device("wg0")
    };
    let big = Config {
        mtu: Some(9000),
        ..Config::default()
    };
    let same = Config {
        mac: Some(MAC),
        ..Config::default()
    };
    for (parent, config, words) in [
        (
            Link {
                loopback: true,
                mac: Some(Mac([0; 6])),
                ..device("lo")
            },
            Config::default(),
            "lo is the loopback",
        ),
        (
            tunnel,
            Config::default(),
            "wg0 (wireguard) is not an Ethernet device",
        ),
        (
            device("eth1"),
            big,
            "mtu: 9000 is more than the 1500 of eth1",
        ),
        (device("eth1"), same.clone(), "is that of eth1 itself"),
    ] {
        let error = fits(&parent, &config).unwrap_err();
        assert!(error.code == 7 && error.msg.contains(words), "{error}");
    }
    assert_eq!(
        fits(
            &device("eth1"),
            &Config {
                mode: MacvlanMode::Passthru,
                ..same
            }
        ),
        Ok(())
    );
    assert_eq!(
        fits(
            &device("eth1"),
            &Config {
                mtu: Some(1500),
                ..Config::default()
            }
        ),
        Ok(())
    );
}

#[test]
fn what_stands_between_the_parent_and_the_lan_is_told() -> std::io::Result<()> {
    let sysfs = tempfile::tempdir()?;
    for (device, file) in [("wlan0", "wireless"), ("wlp2s0", "phy80211")] {
        std::fs::create_dir_all(sysfs.path().join(device).join(file))?;
    }
    let troubles = |link: &Link| parent_troubles(link, Some(sysfs.path()));
    assert!(troubles(&device("eth1")).is_empty());
    assert!(
        troubles(&Link {
            up: false,
            ..device("eth1")
        })[0]
            .contains("ip link set eth1 up")
    );
    assert!(
        troubles(&Link {
            carrier: false,
            ..device("eth1")
        })[0]
            .contains("no carrier")
    );
    for name in ["wlan0", "wlp2s0"] {
        assert!(troubles(&device(name))[0].contains("wireless"), "{name}");
        assert!(
            parent_troubles(&device(name), None).is_empty(),
            "sysfs is of another namespace"
        );
    }
    Ok(())
}
