//! What `tracker explain` asks: the parameters of the API's paths.

use std::{net::IpAddr, ops::RangeInclusive};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// Parameters of `/v1/explain/connect`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectQuery {
    /// Destination address; the wildcard is the host itself, as for `connect()`.
    pub address: IpAddr,
    /// Destination port, not 0.
    pub port: u16,
    /// Local address, of the same family; by default, and for the wildcard, the one that the kernel would choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

/// Parameters of `/v1/explain/bind`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BindQuery {
    /// Local address; an IPv6 address, also a mapped one, is one of an IPv6 socket.
    pub address: IpAddr,
    /// Local port; 0 for any of the range.
    pub port: u16,
    /// `tcp`, the default, or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// `true` when the socket has `SO_REUSEADDR`.
    #[serde(default)]
    pub reuse_address: bool,
    /// `true` when the socket has `SO_REUSEPORT`.
    #[serde(default)]
    pub reuse_port: bool,
    /// Whether the socket has `IPV6_V6ONLY`; by default as `net.ipv6.bindv6only` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_only: Option<bool>,
    /// User that calls it, 0 by default, which alone is taken to have `CAP_NET_BIND_SERVICE`.
    #[serde(default)]
    pub uid: u32,
}

/// Parameters of `/v1/explain/listen`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenQuery {
    /// Local address that clients connect to; the wildcard for all, `::` of IPv6 and IPv4, `0.0.0.0` of IPv4.
    pub address: IpAddr,
    /// Local port, not 0.
    pub port: u16,
    /// How long to watch, seconds: 1 to 60, by default 3.
    #[serde(default = "ListenQuery::default_seconds")]
    pub seconds: u16,
}

impl ListenQuery {
    /// How long is watched unless something else is asked for, seconds.
    #[must_use]
    pub const fn default_seconds() -> u16 {
        3
    }

    /// How long may be watched, seconds.
    pub const SECONDS: RangeInclusive<u16> = 1..=60;
}
