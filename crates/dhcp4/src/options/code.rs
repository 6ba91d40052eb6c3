//! The codes of the options that this crate writes or interprets (RFC 2132 unless noted).

pub(crate) const PAD: u8 = 0;
pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTERS: u8 = 3;
pub(crate) const DNS: u8 = 6;
pub(crate) const DOMAIN_NAME: u8 = 15;
pub(crate) const MTU: u8 = 26;
pub(crate) const BROADCAST: u8 = 28;
pub(crate) const STATIC_ROUTES: u8 = 33;
pub(crate) const REQUESTED_ADDRESS: u8 = 50;
pub(crate) const LEASE_TIME: u8 = 51;
pub(crate) const OVERLOAD: u8 = 52;
pub(crate) const MESSAGE_TYPE: u8 = 53;
pub(crate) const SERVER_ID: u8 = 54;
pub(crate) const PARAMETER_REQUEST_LIST: u8 = 55;
pub(crate) const MESSAGE: u8 = 56;
pub(crate) const MAX_MESSAGE_SIZE: u8 = 57;
pub(crate) const T1: u8 = 58;
pub(crate) const T2: u8 = 59;
pub(crate) const CLIENT_ID: u8 = 61;
pub(crate) const RAPID_COMMIT: u8 = 80; // RFC 4039
pub(crate) const RELAY_AGENT: u8 = 82; // RFC 3046
pub(crate) const DOMAIN_SEARCH: u8 = 119; // RFC 3397
pub(crate) const CLASSLESS_ROUTES: u8 = 121; // RFC 3442
pub(crate) const CLASSLESS_ROUTES_MS: u8 = 249;
pub(crate) const END: u8 = 255;
