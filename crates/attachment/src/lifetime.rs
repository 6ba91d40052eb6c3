//! How long an address is valid, as an extension of CNI's results.
//!
//! CNI results have no field for the lifetime of an address. When another plugin delegates to the
//! dhcp plugin, the dhcp plugin adds such a field beside the address. The other plugin sets the
//! lifetime in the kernel, and removes the field from its own result.

use cni::IpConfig;

/// The field beside an address: for how many seconds from now it is valid.
const KEY: &str = "leasehold/validLifetime";

/// For how many seconds from now the address is valid; `None` is for ever.
pub(crate) fn valid_lifetime(ip: &IpConfig) -> Option<u32> {
    let seconds = ip.extra.get(KEY)?.as_u64()?;
    u32::try_from(seconds).ok()
}

/// Sets for how many seconds from now the address is valid; `None` is for ever.
pub fn set_valid_lifetime(ip: &mut IpConfig, seconds: Option<u32>) {
    match seconds {
        Some(seconds) => drop(ip.extra.insert(KEY.to_owned(), seconds.into())),
        None => drop(ip.extra.remove(KEY)),
    }
}

/// Removes the lifetime from a result that leaves leasehold, and returns it.
pub fn take_valid_lifetime(ip: &mut IpConfig) -> Option<u32> {
    let seconds = valid_lifetime(ip);
    ip.extra.remove(KEY);
    seconds
}

#[cfg(test)]
mod tests {
    use cni::{CniResult, Version};

    use super::*;

    #[test]
    fn a_lifetime_passes_through_the_result_of_every_version_and_can_be_taken_out() {
        let mut ip = IpConfig::new("10.99.0.7/24".parse().unwrap());
        set_valid_lifetime(&mut ip, Some(120));
        let result = CniResult {
            ips: vec![ip],
            ..CniResult::default()
        };
        for version in Version::ALL {
            let written = result.to_value_for_caller(version);
            let mut read = CniResult::from_value(written, version).unwrap();
            assert_eq!(valid_lifetime(&read.ips[0]), Some(120), "{version}");
            assert_eq!(take_valid_lifetime(&mut read.ips[0]), Some(120));
            let document = read.to_value(version);
            assert!(!document.to_string().contains("ifetime"), "{document}");
        }
    }
}
