//! What `bind()` is asked for.

use std::net::IpAddr;

use tracker_model::explain::Protocol;

/// A `bind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the socket")]
pub struct BindRequest {
    /// Protocol.
    pub protocol: Protocol,
    /// Address; an IPv4 address on an IPv6 socket is a mapped one.
    pub address: IpAddr,
    /// Port; 0 for any.
    pub port: u16,
    /// Whether the socket is an `AF_INET6` socket.
    pub ipv6: bool,
    /// `IPV6_V6ONLY` (`net.ipv6.bindv6only` is its default).
    pub ipv6_only: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Effective user that opens the socket.
    pub uid: u32,
    /// Index of the device of `SO_BINDTODEVICE`, or 0.
    pub device: u32,
    /// Whether the process has `CAP_NET_BIND_SERVICE`.
    pub privileged: bool,
}

impl BindRequest {
    /// A request of root without capabilities or options, on a socket of the family of the address.
    #[must_use]
    pub const fn new(protocol: Protocol, address: IpAddr, port: u16) -> Self {
        let (ipv6, ipv6_only) = (address.is_ipv6(), false);
        let (reuse_address, reuse_port, privileged) = (false, false, false);
        Self { protocol, address, port, ipv6, ipv6_only, reuse_address, reuse_port, uid: 0, device: 0, privileged }
    }
}
