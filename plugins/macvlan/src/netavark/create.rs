//! `create`: validates a network, and completes it.

use cni::{Error, code};
use serde_json::{Map, Value, json};

use super::document::Network;
use super::translate::{self, Call, IpamDriver};

/// The network with the fields that the driver decides, and the call that validates it. All other
/// fields are as they were: Podman refuses a network whose name, ID or driver has changed.
///
/// # Errors
/// 7, naming what is wrong.
pub(super) fn complete(document: Map<String, Value>) -> Result<(Value, Call), Error> {
    let network = Network::read(&document)?;
    let driver = IpamDriver::of(&network)?;
    let call = translate::create(&network, driver)?;
    let mut completed = document;
    // Its name server knows only containers of netavark's own drivers.
    completed.insert("dns_enabled".to_owned(), false.into());
    let ipam = completed.entry("ipam_options").or_insert(Value::Null);
    if ipam.is_null() {
        *ipam = json!({});
    }
    ipam["driver"] = driver.name().into();
    Ok((completed.into(), call))
}

/// Whether an error with this code is about the configuration, and not about the state of the host.
pub(super) fn is_about_configuration(code: u32) -> bool {
    [
        code::INCOMPATIBLE_VERSION,
        code::UNSUPPORTED_FIELD,
        code::INVALID_ENVIRONMENT,
        code::DECODING_FAILURE,
        code::INVALID_NETWORK_CONFIG,
        code::INTERNAL,
    ]
    .contains(&code)
}
