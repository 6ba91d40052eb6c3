//! netavark's messages, as its definition has them: read and written by `prost`.

/// What netavark sends.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct NetworkConfig {
    #[prost(string, tag = "1")]
    pub(crate) host_iface: String,
    #[prost(string, tag = "2")]
    pub(crate) container_iface: String,
    #[prost(string, tag = "3")]
    pub(crate) container_mac_addr: String,
    #[prost(string, tag = "4")]
    pub(crate) domain_name: String,
    #[prost(string, tag = "5")]
    pub(crate) host_name: String,
    #[prost(int32, tag = "6")]
    pub(crate) version: i32,
    #[prost(string, tag = "7")]
    pub(crate) ns_path: String,
    #[prost(string, tag = "8")]
    pub(crate) container_id: String,
}

/// What it gets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Lease {
    #[prost(uint32, tag = "1")]
    pub(crate) t1: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) t2: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) lease_time: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) mtu: u32,
    #[prost(string, tag = "5")]
    pub(crate) domain_name: String,
    #[prost(string, tag = "6")]
    pub(crate) mac_address: String,
    #[prost(string, tag = "11")]
    pub(crate) siaddr: String,
    #[prost(string, tag = "12")]
    pub(crate) yiaddr: String,
    #[prost(string, tag = "16")]
    pub(crate) srv_id: String,
    #[prost(string, tag = "17")]
    pub(crate) subnet_mask: String,
    #[prost(string, tag = "18")]
    pub(crate) broadcast_addr: String,
    #[prost(string, repeated, tag = "19")]
    pub(crate) dns_servers: Vec<String>,
    #[prost(string, repeated, tag = "20")]
    pub(crate) gateways: Vec<String>,
}

/// The message of Clean.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Empty {}

/// The answer to Clean.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct OperationResponse {
    #[prost(bool, tag = "1")]
    pub(crate) success: bool,
}
