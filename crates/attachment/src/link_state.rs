//! Whether a parent leads to the LAN, as both plugins report it.

use linknet::Link;

/// Why nothing gets from this parent to the LAN, and what to do; `None` if its link is up.
pub fn no_link(parent: &Link) -> Option<String> {
    let name = &parent.name;
    if !parent.up {
        Some(format!("{name} is down (ip link set {name} up)"))
    } else if !parent.carrier {
        Some(format!("{name} has no carrier: is the cable plugged in?"))
    } else {
        None
    }
}
