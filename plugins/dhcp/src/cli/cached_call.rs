//! A file in the cache of libcni: the call by which a runtime attached a container, and its result.
//!
//! Runtimes built on libcni (Podman, CRI-O, containerd, Multus, cnitool) write one for each
//! attachment, as JSON of the kind `cniCacheV1`.

use std::net::Ipv4Addr;

use cni::{Env, KnownArgs, Request, json_problem};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// An ADD of an IPAM plugin `dhcp`, as a runtime has cached it.
#[derive(Debug)]
pub(crate) struct CachedCall {
    /// The request that the plugin would get if the ADD were repeated and demanded the same address.
    pub(crate) request: Request,
    /// The IPv4 address of its result.
    pub(crate) address: Ipv4Addr,
}

/// The fields of a file, as far as a call needs them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    if_name: String,
    #[serde(default)]
    netns: String,
    /// The conflist, or the configuration of one plugin, in Base64.
    config: String,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    result: Value,
}

impl CachedCall {
    /// Reads a file. `None` if its attachment is none of the IPAM plugin `dhcp`.
    ///
    /// # Errors
    /// What is wrong with the file, or missing in it.
    pub(crate) fn parse(document: &[u8]) -> Result<Option<CachedCall>, String> {
        let file: File = serde_json::from_slice(document).map_err(|error| json_problem(&error))?;
        if file.kind != "cniCacheV1" {
            return Err(format!("its kind is {:?}, not \"cniCacheV1\"", file.kind));
        }
        let config = BASE64
            .decode(file.config.as_bytes())
            .map_err(|error| format!("config: {error}"))?;
        let list: Value =
            serde_json::from_slice(&config).map_err(|error| format!("config: {error}"))?;
        let Some(mut plugin) = plugin_with_dhcp(&list) else {
            return Ok(None);
        };
        let address = address(&file).ok_or("its result has no IPv4 address for the interface")?;
        for key in ["cniVersion", "name"] {
            if let Some(value) = list.get(key) {
                plugin.insert(key.to_owned(), value.clone());
            }
        }
        let runtime_config = runtime_config(&plugin, &file);
        plugin.insert("runtimeConfig".to_owned(), runtime_config.into());
        plugin["ipam"]["requestedAddress"] = json!(address);
        let netns = match file.netns.as_str() {
            "" => sandbox(&file).ok_or("neither it nor its result names a network namespace")?,
            path => path.to_owned(),
        };
        let pairs = file.cni_args.iter().flatten();
        let args: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        let env: Env = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", &file.container_id),
            ("CNI_IFNAME", &file.if_name),
            ("CNI_NETNS", &netns),
            ("CNI_ARGS", &args.join(";")),
            ("CNI_PATH", "/"),
        ]
        .into_iter()
        .collect();
        let stdin = Value::from(plugin).to_string();
        let request = Request::parse(&env, stdin.as_bytes(), KnownArgs::Any)
            .map_err(|error| error.to_string())?;
        Ok(Some(CachedCall { request, address }))
    }
}

/// The configuration of the plugin that delegates to `dhcp`, of a conflist or by itself.
fn plugin_with_dhcp(list: &Value) -> Option<Map<String, Value>> {
    let plugins = match list.get("plugins") {
        Some(plugins) => plugins.as_array()?.as_slice(),
        None => std::slice::from_ref(list),
    };
    let uses_dhcp = |plugin: &&Value| plugin["ipam"]["type"] == "dhcp";
    plugins.iter().find(uses_dhcp)?.as_object().cloned()
}

/// What the runtime passed to plugins with these capabilities.
fn runtime_config(plugin: &Map<String, Value>, file: &File) -> Map<String, Value> {
    let has = |capability: &str| {
        plugin
            .get("capabilities")
            .is_some_and(|all| all[capability] == true)
    };
    let passed = file.capability_args.iter().flatten();
    passed
        .filter(|(capability, _)| has(capability))
        .map(|(capability, value)| (capability.clone(), value.clone()))
        .collect()
}

/// The container's interface in the result, and its position.
fn interface(file: &File) -> Option<(usize, &Value)> {
    let interfaces = file.result["interfaces"].as_array()?;
    let is_ours = |interface: &Value| {
        let sandbox = interface["sandbox"].as_str().unwrap_or_default();
        interface["name"] == file.if_name.as_str() && !sandbox.is_empty()
    };
    let mut all = interfaces.iter().enumerate();
    all.find(|(_, interface)| is_ours(interface))
}

fn sandbox(file: &File) -> Option<String> {
    Some(interface(file)?.1["sandbox"].as_str()?.to_owned())
}

/// The first IPv4 address of the container's interface. An address that names no interface is its
/// own, as in results before 0.3.0.
fn address(file: &File) -> Option<Ipv4Addr> {
    let ours = interface(file).map(|(position, _)| position);
    let of_list = file.result["ips"].as_array().into_iter().flatten();
    let of_list = of_list.filter(|ip| match ip["interface"].as_u64() {
        Some(position) => ours.is_some_and(|ours| ours as u64 == position),
        None => true,
    });
    let before_0_3 = file.result["ip4"]["ip"].as_str();
    let nets = of_list
        .filter_map(|ip| ip["address"].as_str())
        .chain(before_0_3);
    let mut addresses = nets.filter_map(|net| net.split('/').next()?.parse().ok());
    addresses.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflist() -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "lan",
            "plugins": [
                {
                    "type": "macvlan",
                    "master": "eth1",
                    "capabilities": { "ips": true },
                    "ipam": { "type": "dhcp", "provide": [{ "option": "host-name", "fromArg": "K8S_POD_NAME" }] },
                },
                { "type": "tuning" },
            ],
        })
    }

    fn file(list: &Value) -> Value {
        json!({
            "kind": "cniCacheV1",
            "containerId": "c1",
            "ifName": "eth0",
            "networkName": "lan",
            "netns": "/run/netns/c1",
            "config": BASE64.encode(list.to_string().as_bytes()),
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
            "capabilityArgs": { "ips": ["10.99.0.7"], "portMappings": [] },
            "result": {
                "cniVersion": "1.0.0",
                "interfaces": [
                    { "name": "lh-eth1" },
                    { "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/old" },
                ],
                "ips": [
                    { "interface": 0, "address": "10.99.0.2/24" },
                    { "interface": 1, "address": "10.99.0.7/24", "gateway": "10.99.0.1" },
                ],
            },
        })
    }

    fn parse(file: &Value) -> Result<Option<CachedCall>, String> {
        CachedCall::parse(file.to_string().as_bytes())
    }

    #[test]
    fn the_call_is_repeated_with_its_address() {
        let call = parse(&file(&conflist())).unwrap().unwrap();
        assert_eq!(call.address, Ipv4Addr::new(10, 99, 0, 7));
        let attachment = call.request.attachment().unwrap();
        assert_eq!(attachment.to_string(), "c1/lan/eth0");
        assert_eq!(
            call.request.netns.as_deref().unwrap().to_str(),
            Some("/run/netns/c1")
        );
        assert_eq!(call.request.config.plugin_type, "macvlan");
        crate::lease_params(&call.request, None).unwrap();
    }

    #[test]
    fn a_plugin_gets_the_arguments_of_its_capabilities_alone() {
        let capabilities = json!({ "ips": true, "portMappings": false });
        let plugin = json!({ "capabilities": capabilities });
        let file =
            json!({ "capabilityArgs": { "ips": ["10.99.0.7"], "portMappings": [], "mac": "" } });
        let mut whole = self::file(&conflist());
        whole["capabilityArgs"] = file["capabilityArgs"].clone();
        let file: File = serde_json::from_value(whole).unwrap();
        let passed = runtime_config(plugin.as_object().unwrap(), &file);
        assert_eq!(Value::from(passed), json!({ "ips": ["10.99.0.7"] }));
    }

    #[test]
    fn the_interface_is_known_by_its_name_and_by_being_in_the_container() {
        let mut file = file(&conflist());
        let of_host = json!({ "name": "eth0" });
        let other = json!({ "name": "eth1", "sandbox": "/run/netns/c1" });
        let interfaces = file["result"]["interfaces"].as_array_mut().unwrap();
        interfaces[0] = of_host;
        interfaces.insert(1, other);
        file["result"]["ips"][1]["interface"] = json!(2);
        let call = parse(&file).unwrap().unwrap();
        assert_eq!(call.address, Ipv4Addr::new(10, 99, 0, 7));
        assert!(crate::cli::is_adoptable(file.to_string().as_bytes()).unwrap());
        assert!(crate::cli::is_adoptable(b"{").is_err());
    }

    #[test]
    fn a_file_of_before_libcni_1_has_the_namespace_in_its_result() {
        let mut file = file(&conflist());
        file["netns"] = json!("");
        let call = parse(&file).unwrap().unwrap();
        assert_eq!(call.request.netns.unwrap().to_str(), Some("/run/netns/old"));
    }

    #[test]
    fn the_configuration_of_a_single_plugin_will_do_and_other_ipam_is_not_meant() {
        let mut list = conflist();
        let mut single = list["plugins"][0].clone();
        single["name"] = json!("lan");
        single["cniVersion"] = json!("0.3.1");
        assert!(parse(&file(&single)).unwrap().is_some());
        list["plugins"][0]["ipam"]["type"] = json!("host-local");
        assert!(parse(&file(&list)).unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_not_understood_is_an_error_that_says_what_is_wrong() {
        let with = |key: &str, value: Value| {
            let mut file = file(&conflist());
            file[key] = value;
            parse(&file).unwrap_err()
        };
        assert!(with("kind", json!("cniCacheV2")).contains("cniCacheV2"));
        assert!(with("config", json!("%")).starts_with("config"));
        assert!(with("config", json!(BASE64.encode(b"{"))).starts_with("config"));
        assert!(with("result", json!({})).contains("no IPv4 address"));
        assert!(with("containerId", json!("../c1")).contains("CNI_CONTAINERID"));
        assert!(CachedCall::parse(b"").is_err());
    }
}
