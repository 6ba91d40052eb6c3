//! Keys of the dhcp plugin's that concern the plugin which delegates to it, as an extension of CNI's
//! results.
//!
//! The other plugin does not know all of them: a network's file may have them. So the dhcp plugin
//! adds fields beside the address that it assigns, and the other plugin removes them from its own
//! result.

use cni::{CniResult, IpConfig};
use ipnet::IpNet;

/// The field beside an address for `announce`.
const ANNOUNCE: &str = "leasehold/announce";
/// The field beside an address for the destinations of `routes`.
const ROUTES: &str = "leasehold/routes";

/// Keys of the dhcp plugin's that concern the plugin which delegates to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatedKeys {
    /// Whether to announce the address.
    pub announce: bool,
    /// The destinations of the routes that are the configuration's; all others are the server's.
    pub routes: Vec<IpNet>,
}

impl DelegatedKeys {
    /// Adds them to an address.
    pub fn add_to(&self, ip: &mut IpConfig) {
        let routes: Vec<String> = self.routes.iter().map(IpNet::to_string).collect();
        ip.extra.insert(ANNOUNCE.to_owned(), self.announce.into());
        ip.extra.insert(ROUTES.to_owned(), routes.into());
    }

    /// Removes them from a result, and returns them; `None` if it is not the dhcp plugin's.
    pub fn take(result: &mut CniResult) -> Option<DelegatedKeys> {
        let mut found = None;
        for ip in &mut result.ips {
            let fields = [ANNOUNCE, ROUTES].map(|field| ip.extra.remove(field));
            if let [Some(announce), Some(routes)] = fields {
                found = Some((announce.as_bool()?, routes));
            }
        }
        let (announce, routes) = found?;
        let routes = routes.as_array()?.iter();
        Some(DelegatedKeys {
            announce,
            routes: routes
                .filter_map(|dst| dst.as_str()?.parse().ok())
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use cni::Version;

    use super::*;

    #[test]
    fn they_pass_through_the_result_of_every_version_and_can_be_taken_out() {
        let keys = DelegatedKeys {
            announce: false,
            routes: vec!["10.5.0.0/16".parse().unwrap()],
        };
        let mut ip = IpConfig::new("10.99.0.7/24".parse().unwrap());
        keys.add_to(&mut ip);
        let result = CniResult {
            ips: vec![ip],
            ..CniResult::default()
        };
        for version in Version::ALL {
            let written = result.to_value_for_caller(version);
            let mut read = CniResult::from_value(written, version).unwrap();
            assert_eq!(
                DelegatedKeys::take(&mut read),
                Some(keys.clone()),
                "{version}"
            );
            assert_eq!(DelegatedKeys::take(&mut read), None);
            let document = read.to_value(version);
            assert!(!document.to_string().contains("leasehold"), "{document}");
        }
    }
}
