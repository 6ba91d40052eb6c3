//! The plugin's own error codes, beside those of the specification ([`cni::code`]). All of them are
//! here.

/// CHECK: the attachment is not as ADD reported it. `msg` names the first difference: the interface
/// is gone, of another kind, mode, parent, MAC or MTU, it or its parent is down, an address or a
/// route is missing.
pub(crate) const DIFFERS: u32 = 110;

/// The kernel refused for a reason that is not the configuration's (a missing capability, no
/// memory), or could not be asked at all. `details` has the kernel's own words.
pub(crate) const KERNEL: u32 = 111;

/// ADD: this kernel has no macvlan driver, or no VLANs where one is wanted. (STATUS says the same
/// with the specification's code 50.)
pub(crate) const NO_DRIVER: u32 = 112;

/// ADD: somebody else on the link has an IPv6 address that was to be set (duplicate address
/// detection, RFC 4862 §5.4).
pub(crate) const ADDRESS_TAKEN: u32 = 113;
