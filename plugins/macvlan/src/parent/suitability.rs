//! Whether a device can be a parent, and whether it leads to the LAN.

use std::path::Path;

use attachment::no_link;
use cni::{Error, code};
use linknet::{Link, MacvlanMode};

use crate::config::Config;

/// Refuses a parent that can have no such macvlan as configured, where this shows before the kernel
/// is asked.
///
/// # Errors
/// 7: `lo`, a device that is not Ethernet, an MTU over the parent's, the parent's own MAC.
pub(crate) fn ensure_suitable(parent: &Link, config: &Config) -> Result<(), Error> {
    let refuse = |what: String| Error::new(code::INVALID_NETWORK_CONFIG, what);
    if parent.loopback {
        return Err(refuse(format!(
            "{} is the loopback device, which is not on a LAN",
            parent.name
        ))
        .details("master must be the device on the LAN"));
    }
    let Some(parent_mac) = parent.mac else {
        let kind = parent
            .kind
            .as_deref()
            .map(|kind| format!(" ({kind})"))
            .unwrap_or_default();
        return Err(refuse(format!(
            "{}{kind} is not an Ethernet device, which a macvlan needs",
            parent.name
        )));
    };
    if let Some(mtu) = config.mtu.filter(|&mtu| mtu > parent.mtu) {
        return Err(refuse(format!(
            "invalid network configuration: mtu: {mtu} is more than the {} of {}",
            parent.mtu, parent.name
        ))
        .details(format!("leave out mtu to use the MTU of {}", parent.name)));
    }
    if config.mac == Some(parent_mac) && config.mode != MacvlanMode::Passthru {
        return Err(refuse(format!(
            "MAC {parent_mac} is that of {} itself",
            parent.name
        ))
        .details("a macvlan has a MAC of its own, in every mode but passthru"));
    }
    Ok(())
}

/// The obstacles between the parent and the LAN, as far as the kernel shows them. None of them
/// keeps an interface from being created. `sysfs` is where the parent's namespace shows its
/// devices, if that is visible.
pub(crate) fn obstacles(parent: &Link, sysfs: Option<&Path>) -> Vec<String> {
    let name = &parent.name;
    let mut obstacles = Vec::new();
    obstacles.extend(no_link(parent));
    let wireless = |folder: &Path| {
        let device = folder.join(name);
        device.join("wireless").exists() || device.join("phy80211").exists()
    };
    if sysfs.is_some_and(wireless) {
        obstacles.push(format!(
            "{name} is wireless, and an access point forwards only frames with the MAC of the \
             station itself: a macvlan needs a wired device"
        ));
    }
    obstacles
}

#[cfg(test)]
mod tests {
    use linknet::Mac;

    use super::*;
    use crate::testing::{MAC, device};

    #[test]
    fn an_unsuitable_parent_is_refused_before_the_kernel_is_asked() {
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
            let error = ensure_suitable(&parent, &config).unwrap_err();
            assert!(error.code == 7 && error.msg.contains(words), "{error}");
        }
        assert_eq!(
            ensure_suitable(
                &device("eth1"),
                &Config {
                    mode: MacvlanMode::Passthru,
                    ..same
                }
            ),
            Ok(())
        );
        assert_eq!(
            ensure_suitable(
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
    fn each_obstacle_between_the_parent_and_the_lan_is_named() -> std::io::Result<()> {
        let sysfs = tempfile::tempdir()?;
        for (device, file) in [("wlan0", "wireless"), ("wlp2s0", "phy80211")] {
            std::fs::create_dir_all(sysfs.path().join(device).join(file))?;
        }
        let found = |link: &Link| obstacles(link, Some(sysfs.path()));
        assert!(found(&device("eth1")).is_empty());
        assert!(
            found(&Link {
                up: false,
                ..device("eth1")
            })[0]
                .contains("ip link set eth1 up")
        );
        assert!(
            found(&Link {
                carrier: false,
                ..device("eth1")
            })[0]
                .contains("no carrier")
        );
        for name in ["wlan0", "wlp2s0"] {
            assert!(found(&device(name))[0].contains("wireless"), "{name}");
            assert!(
                obstacles(&device(name), None).is_empty(),
                "sysfs shows another namespace"
            );
        }
        Ok(())
    }
}
