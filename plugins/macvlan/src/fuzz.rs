//! What must hold of any network configuration. Shared by the fuzz target `macvlan_config`, which
//! includes the modules of this program under the same names, and by the replay of its corpus on
//! stable Rust.

use cni::{Env, KnownArgs, Request, code};
use linknet::{Link, MacvlanMode};

use crate::config::Config;
use crate::mark::{self, Mark};
use crate::testing::macvlan;
use crate::{parent, routes};

/// The first line is CNI_ARGS, the rest what a runtime writes to the plugin.
pub(crate) fn config(input: &[u8]) {
    let (args, stdin) = match input.iter().position(|octet| *octet == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b""[..], input),
    };
    let Ok(args) = std::str::from_utf8(args) else {
        return;
    };
    for verb in ["ADD", "DEL"] {
        let variables = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", args),
        ];
        let env: Env = variables.into_iter().collect();
        let Ok(request) = Request::parse(&env, stdin, KnownArgs::Only(&["MAC"])) else {
            continue;
        };
        match Config::read(&request) {
            Ok(config) => means_something(&config),
            Err(error) => {
                let expected = [code::INVALID_ENVIRONMENT, code::INVALID_NETWORK_CONFIG];
                assert!(
                    expected.contains(&error.code) && !error.msg.is_empty(),
                    "{error}"
                );
            }
        }
        tells_its_attachment(&request);
        if let Some(previous) = &request.config.prev_result {
            let _ = routes::plan(7, previous);
        }
    }
}

/// What was accepted can be asked of a kernel.
fn means_something(config: &Config) {
    assert!(
        config
            .vlan
            .is_none_or(|id| (1..=linknet::Vlan::MAX_ID).contains(&id))
    );
    assert!(
        config
            .mac
            .is_none_or(|mac| !mac.is_multicast() && !mac.is_zero())
    );
    assert!(config.sources.is_empty() || config.mode == MacvlanMode::Source);
    assert!(
        !config.host_access || (config.mode == MacvlanMode::Bridge && !config.link_in_container)
    );
    assert!(config.keep_routes.iter().all(|kept| kept.prefix_len() > 0));
    if let Some(master) = &config.master {
        let named = master.to_string();
        let _ = parent::Vlan::spelled(&named);
        assert!(!master.is_empty() && named.starts_with("master "));
    }
}

/// Whatever a network is called, its interfaces are known again, and by no other network.
fn tells_its_attachment(request: &Request) {
    let mark = Mark::of(request);
    assert!(mark.group != 0 && mark.alias.len() <= 255);
    let link = Link {
        alias: Some(mark.alias),
        ..macvlan("eth0")
    };
    let network = &request.config.name;
    let attachment = mark::attachment(&link, network).expect("its own interface");
    assert_eq!(
        (attachment.container_id.as_str(), attachment.ifname.as_str()),
        ("c1", "eth0")
    );
    assert!(network == "another" || mark::attachment(&link, "another").is_none());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_corpus_of_macvlan_config_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/macvlan_config");
        let mut inputs = 0;
        let entries = std::fs::read_dir(&corpus);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
            let path = entry.expect("an entry").path();
            println!("{}", path.display()); // shown when it fails
            super::config(&std::fs::read(&path).expect("an input"));
            inputs += 1;
        }
        assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
    }
}
