//! Numbers of the protocols that frames are made of (IANA registries).
#![forbid(unsafe_code)]

/// `EtherType` of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// `EtherType` of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// `EtherType` of a customer VLAN tag, IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;
/// `EtherType` of IPX.
pub const ETHERTYPE_IPX: u16 = 0x8137;
/// `EtherType` of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// `EtherType` of MPLS.
pub const ETHERTYPE_MPLS: u16 = 0x8847;
/// `EtherType` of a service VLAN tag, IEEE 802.1ad.
pub const QINQ: u16 = 0x88a8;
/// `EtherType` of LLDP.
pub const ETHERTYPE_LLDP: u16 = 0x88cc;
/// `EtherType` of `MACsec`, IEEE 802.1AE.
pub const ETHERTYPE_MACSEC: u16 = 0x88e5;
/// The unregistered tag of some vendors for the outer VLAN.
pub const VENDOR_TAG: u16 = 0x9100;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// ICMP.
pub const ICMP: u8 = 1;
/// IPv4 in IP.
pub const IPIP: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 in IP.
pub const IPV6: u8 = 41;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// GRE.
pub const GRE: u8 = 47;
/// Encapsulating Security Payload.
pub const ESP: u8 = 50;
/// Authentication Header.
pub const AUTHENTICATION: u8 = 51;
/// `ICMPv6`.
pub const ICMPV6: u8 = 58;
/// No next header.
pub const NO_NEXT_HEADER: u8 = 59;
/// Destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// SCTP.
pub const SCTP: u8 = 132;
/// Mobility header.
pub const MOBILITY: u8 = 135;
/// Host Identity Protocol.
pub const HIP: u8 = 139;
/// Shim6.
pub const SHIM6: u8 = 140;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// Echo of a congestion mark.
pub const ECE: u8 = 0x40;
/// Congestion window reduced.
pub const CWR: u8 = 0x80;
