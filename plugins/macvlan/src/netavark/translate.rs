//! netavark's documents as calls of a CNI plugin.
//!
//! The configuration has the keys that a user would write for CNI, so what they mean, and what is
//! wrong with them, is decided in one place.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;

use cni::{CniResult, Error, Verb, Version};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::assigned;
use super::document::{Exec, Network, Route};
use super::options::{Options, PRIORITY};
use crate::config;

/// A call of the plugin.
#[derive(Debug)]
pub(super) struct Call {
    /// The variables of the call, to be set over those of the process.
    pub(super) env: Vec<(&'static str, OsString)>,
    /// The network configuration.
    pub(super) config: Value,
    /// The addresses, if Podman assigns them.
    pub(super) assigned: Option<CniResult>,
}

/// How long an ADD may take unless the options say otherwise. Podman attaches one container at a
/// time, so the daemon's own minute would be too long.
const TIMEOUT: &str = "10s";

/// The key in `args.cni` of the container's name.
const CONTAINER_NAME: &str = "K8S_POD_NAME";
/// The keys in `args.cni` of the host name that the user has given: its first label, and all of it.
const HOSTNAME: &str = "HOSTNAME";
const FQDN: &str = "FQDN";

/// Who assigns the addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpamDriver {
    /// The LAN's DHCP server.
    Dhcp,
    /// Podman.
    HostLocal,
    /// Nobody: the interface has no address.
    None,
}

impl IpamDriver {
    /// The driver of a network. Without `--ipam-driver`, it depends on whether there are subnets.
    ///
    /// # Errors
    /// 7 for another name, and for Podman's own driver without a subnet.
    pub(super) fn of(network: &Network) -> Result<IpamDriver, Error> {
        let has_subnets = !network.subnets.is_empty();
        match network.ipam_options.driver.as_str() {
            "" if has_subnets => Ok(IpamDriver::HostLocal),
            "" | "dhcp" => Ok(IpamDriver::Dhcp),
            "host-local" if has_subnets => Ok(IpamDriver::HostLocal),
            "host-local" => Err(config::invalid(
                "the IPAM driver host-local needs a subnet (--subnet)",
            )),
            "none" => Ok(IpamDriver::None),
            other => Err(config::invalid(format_args!(
                "the IPAM driver is {other:?}, which is none of dhcp, host-local and none"
            ))),
        }
    }

    /// Its name, which is Podman's and CNI's.
    pub(super) fn name(self) -> &'static str {
        match self {
            IpamDriver::Dhcp => "dhcp",
            IpamDriver::HostLocal => "host-local",
            IpamDriver::None => "none",
        }
    }
}

/// The call for `create`: STATUS, which reads the whole configuration, and says whether an ADD could
/// succeed.
///
/// # Errors
/// 7 for an unknown option, and for what the network's IPAM driver does not have.
pub(super) fn create(network: &Network, driver: IpamDriver) -> Result<Call, Error> {
    let options = Options::read(&network.options, &Map::new());
    ensure_possible(network, driver, &options)?;
    Ok(Call {
        env: vec![("CNI_COMMAND", Verb::Status.as_str().into())],
        config: configuration(network, driver, options).into(),
        assigned: none_yet(driver),
    })
}

/// The call for `setup`: ADD.
///
/// # Errors
/// As [`create`], and 7 for addresses that no subnet contains.
pub(super) fn setup(exec: &Exec, netns: &OsStr) -> Result<Call, Error> {
    let network = &exec.network;
    let addresses = &exec.network_options.static_ips;
    let options = options(exec);
    let driver = IpamDriver::of(network)?;
    ensure_possible(network, driver, &options)?;
    let assigned = match (driver, addresses.first()) {
        (IpamDriver::HostLocal, _) => Some(assigned(network, addresses, &options)?),
        (IpamDriver::None, Some(address)) => {
            return Err(config::invalid(format_args!(
                "{address} was requested, but with the IPAM driver none, containers have no address"
            )));
        }
        _ => None,
    };
    let mut config = configuration(network, driver, options);
    set_container(&mut config, exec, driver);
    Ok(Call {
        env: environment(Verb::Add, exec, netns),
        config: config.into(),
        assigned,
    })
}

/// The call for `teardown`: DEL. What `setup` would refuse is ignored here, because it must not keep
/// a container from being removed.
pub(super) fn teardown(exec: &Exec, netns: &OsStr) -> Call {
    let network = &exec.network;
    let driver = IpamDriver::of(network).unwrap_or(IpamDriver::Dhcp);
    let mut config = configuration(network, driver, options(exec));
    set_container(&mut config, exec, driver);
    Call {
        env: environment(Verb::Del, exec, netns),
        config: config.into(),
        assigned: none_yet(driver),
    }
}

/// The addresses of a call that is not about any.
fn none_yet(driver: IpamDriver) -> Option<CniResult> {
    (driver == IpamDriver::HostLocal).then(CniResult::default)
}

fn options(exec: &Exec) -> Options {
    Options::read(&exec.network.options, &exec.network_options.options)
}

fn environment(verb: Verb, exec: &Exec, netns: &OsStr) -> Vec<(&'static str, OsString)> {
    vec![
        ("CNI_COMMAND", verb.as_str().into()),
        ("CNI_CONTAINERID", exec.container_id.as_str().into()),
        ("CNI_NETNS", netns.to_owned()),
        (
            "CNI_IFNAME",
            exec.network_options.interface_name.as_str().into(),
        ),
    ]
}

/// Refuses what would have no effect, or what the plugins could not say in the user's words.
fn ensure_possible(network: &Network, driver: IpamDriver, options: &Options) -> Result<(), Error> {
    options.ensure_known()?;
    let needs_dhcp = options.ipam.keys().find(|key| match driver {
        IpamDriver::Dhcp => false,
        IpamDriver::HostLocal => *key != PRIORITY,
        IpamDriver::None => true,
    });
    if let Some(key) = needs_dhcp {
        return Err(config::invalid(format_args!(
            "{key} needs the IPAM driver dhcp, but the network's is {}",
            driver.name()
        )));
    }
    if driver == IpamDriver::None && !network.routes.is_empty() {
        return Err(config::invalid(
            "routes need an address, and with the IPAM driver none there is none",
        ));
    }
    match driver {
        IpamDriver::HostLocal => configured_routes(network, options).map(drop),
        _ => Ok(()),
    }
}

/// The network configuration, without what is one container's.
fn configuration(network: &Network, driver: IpamDriver, options: Options) -> Map<String, Value> {
    let ipam = match driver {
        IpamDriver::Dhcp => Some(dhcp(network, &options)),
        IpamDriver::HostLocal => Some(json!({ "type": driver.name() })),
        IpamDriver::None => None,
    };
    let mut config = options.macvlan;
    let refused = network.routes.iter().filter(|route| !route.is_unicast());
    append(&mut config, "refusedRoutes", refused.map(refused_route));
    let parent = network.network_interface.as_str();
    if !parent.is_empty() {
        config.entry("master").or_insert_with(|| parent.into());
    }
    config.insert("cniVersion".to_owned(), Version::LATEST.as_str().into());
    config.insert("name".to_owned(), network.name.as_str().into());
    config.insert("type".to_owned(), "macvlan".into());
    config.extend(ipam.map(|ipam| ("ipam".to_owned(), ipam)));
    if let Some(dns) = options.dns.filter(|dns| !dns.is_boolean()) {
        config.insert("dns".to_owned(), dns);
    }
    config
}

/// The `ipam` section for the dhcp plugin.
fn dhcp(network: &Network, options: &Options) -> Value {
    let mut ipam = options.ipam.clone();
    ipam.insert("type".to_owned(), IpamDriver::Dhcp.name().into());
    ipam.entry("timeout").or_insert_with(|| TIMEOUT.into());
    let is_internal = network.internal;
    let suppressed = [
        ("gateway", is_internal || options.no_default_route),
        ("routes", is_internal),
        ("dns", options.dns == Some(Value::Bool(false))),
    ];
    let suppressed = suppressed
        .into_iter()
        .filter(|(_, is_unwanted)| *is_unwanted);
    append(
        &mut ipam,
        "suppress",
        suppressed.map(|(part, _)| part.into()),
    );
    append(&mut ipam, "routes", network.unicast_routes().map(route));
    ipam.into()
}

/// Appends to the list that a key has. If its value is no list, the plugin refuses it.
fn append(section: &mut Map<String, Value>, key: &str, more: impl IntoIterator<Item = Value>) {
    let mut more = more.into_iter().peekable();
    if more.peek().is_some()
        && let Value::Array(list) = section.entry(key).or_insert_with(|| json!([]))
    {
        list.extend(more);
    }
}

/// A route that refuses packets as the configuration has it.
fn refused_route(route: &Route) -> Value {
    let Route {
        destination,
        route_type,
        metric,
        ..
    } = route;
    json!({ "dst": destination, "type": route_type, PRIORITY: metric.unwrap_or(0) })
}

/// A route of the network as CNI writes it.
fn route(route: &Route) -> Value {
    let mut written = json!({ "dst": route.destination });
    if let Some(gateway) = route.gateway {
        written["gw"] = json!(gateway);
    }
    if let Some(metric) = route.metric {
        written[PRIORITY] = metric.into();
    }
    written
}

/// The result of the IPAM plugin that Podman is.
fn assigned(
    network: &Network,
    addresses: &[IpAddr],
    options: &Options,
) -> Result<CniResult, Error> {
    let mut result = assigned::result(network, addresses, !options.no_default_route)?;
    let configured = configured_routes(network, options)?;
    result.routes.extend(configured.routes);
    for route in &mut result.routes {
        route.priority = route.priority.or(configured.priority);
    }
    Ok(result)
}

/// The routes of a network whose addresses Podman assigns, and the metric of those that have none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfiguredRoutes {
    priority: Option<u32>,
    routes: Vec<cni::Route>,
}

fn configured_routes(network: &Network, options: &Options) -> Result<ConfiguredRoutes, Error> {
    let mut ipam = options.ipam.clone();
    let routes: Vec<Value> = network.unicast_routes().map(route).collect();
    ipam.insert("routes".to_owned(), routes.into());
    cni::go::decode_under("ipam", &ipam)
}

/// Adds what a runtime passes for one container.
fn set_container(config: &mut Map<String, Value>, exec: &Exec, driver: IpamDriver) {
    let options = &exec.network_options;
    let mut runtime = Map::new();
    if !options.static_mac.is_empty() {
        runtime.insert("mac".to_owned(), options.static_mac.as_str().into());
    }
    let mut args = Map::new();
    if !exec.container_name.is_empty() {
        args.insert(
            CONTAINER_NAME.to_owned(),
            exec.container_name.as_str().into(),
        );
    }
    if driver == IpamDriver::Dhcp {
        let ips = options.static_ips.iter().map(IpAddr::to_string);
        runtime.insert("ips".to_owned(), ips.collect::<Vec<_>>().into());
        let section = config.get_mut("ipam").and_then(Value::as_object_mut);
        if let (Some(fqdn), Some(ipam)) = (exec.hostname(), section) {
            let hostname = fqdn.split('.').next().unwrap_or(fqdn);
            args.insert(HOSTNAME.to_owned(), hostname.into());
            args.insert(FQDN.to_owned(), fqdn.into());
            set_hostname(ipam);
        }
    }
    config.insert("runtimeConfig".to_owned(), runtime.into());
    config.insert("args".to_owned(), json!({ "cni": args }));
}

/// Where the container's name would be sent, the host name is.
fn set_hostname(ipam: &mut Map<String, Value>) {
    ipam.entry("hostname").or_insert(Value::Bool(true));
    for (key, arg) in [("hostname", HOSTNAME), ("fqdn", FQDN)] {
        if let Some(value) = ipam.get_mut(key)
            && *value == Value::Bool(true)
        {
            *value = json!({ "fromArg": arg });
        }
    }
}
