//! leasehold's own error codes, beside those of the specification and the library ([`cni::code`]).

/// CHECK: the attachment is not as ADD reported it. `msg` names the first difference: the interface
/// is gone; its kind, mode, parent, MAC or MTU differs; it or its parent is down; or an address, a
/// route or a rule is missing.
pub const DIFFERS: u32 = 110;

/// The kernel refused for a reason other than the configuration (a missing capability, no memory),
/// or could not be asked at all. `details` or `msg` has the kernel's own words.
pub const KERNEL: u32 = 111;

/// ADD: this kernel has no macvlan driver, or no VLANs where one is wanted. (STATUS says the same
/// with the specification's code 50.)
pub const NO_DRIVER: u32 = 112;

/// ADD: another host on the link has an IPv6 address that was to be set (duplicate address
/// detection, RFC 4862 §5.4).
pub const ADDRESS_TAKEN: u32 = 113;

/// ADD: the host must not be led to the address that IPAM assigned (`hostAccess`): it is on no prefix
/// that is allowed, or the host uses it otherwise.
pub const HOST_ROUTE_REFUSED: u32 = 114;

/// CHECK: the daemon has no lease for the attachment, or none that can be used.
pub const NO_LEASE: u32 = 120;

/// CHECK: the attachment's lease is for another address than `prevResult` lists.
pub const LEASE_DIFFERS: u32 = 121;
