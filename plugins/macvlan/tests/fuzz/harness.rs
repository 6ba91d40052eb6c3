// What must hold of any network configuration. Included by the fuzz target `macvlan_config` and by
// the test that replays its corpus.

#[path = "../../../../fuzz/request.rs"]
mod request;

use attachment::{OwnerMark, Plan, SourceRouting};
use cni::{KnownArgs, Request};
use leasehold_macvlan::config::Config;
use leasehold_macvlan::parent::Vlan;
use linknet::{Link, MacvlanMode};

/// The first line is CNI_ARGS, the rest what a runtime writes to the plugin.
pub(crate) fn read(input: &[u8]) {
    for verb in ["ADD", "DEL"] {
        let Some(request) = request::read(input, verb, KnownArgs::Only(&["MAC"])) else {
            continue;
        };
        match Config::read(&request) {
            Ok(config) => is_possible(&config),
            Err(error) => request::assert_says_what_is_invalid(&error),
        }
        marks_its_interface(&request);
        if let Some(previous) = &request.config.prev_result {
            let _ = Plan::new(previous, 7, SourceRouting::Own);
        }
    }
}

/// A configuration that was accepted is one that a kernel can be asked for.
fn is_possible(config: &Config) {
    let valid_ids = 1..=linknet::Vlan::MAX_ID;
    assert!(config.vlan.is_none_or(|id| valid_ids.contains(&id)));
    let is_usable = |mac: linknet::Mac| !mac.is_multicast() && !mac.is_zero();
    assert!(config.mac.is_none_or(is_usable));
    assert!(config.sources.is_empty() || config.mode == MacvlanMode::Source);
    let allows_host_access = config.mode == MacvlanMode::Bridge && !config.link_in_container;
    assert!(config.host_access.is_off() || allows_host_access);
    assert!(config.keep_routes.iter().all(|kept| kept.prefix_len() > 0));
    if let Some(master) = &config.master {
        let name = master.to_string();
        let _ = Vlan::parse_dotted(&name);
        assert!(!master.is_empty() && name.starts_with("master "));
    }
}

/// Whatever the network is called, its interfaces are recognised by it and by no other.
fn marks_its_interface(request: &Request) {
    let attachment = request.attachment().expect("ADD and DEL have one");
    let mark = OwnerMark::new(attachment);
    assert!(mark.group != 0 && mark.alias.len() <= 254);
    let link = Link {
        kind: Some("macvlan".to_owned()),
        alias: Some(mark.alias.clone()),
        ..Link::default()
    };
    let network = attachment.network();
    assert_eq!(OwnerMark::of_network(&link, network), Some(mark));
    assert!(network == "another" || OwnerMark::of_network(&link, "another").is_none());
}
