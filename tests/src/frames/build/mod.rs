//! Builder of frames: a [`Recipe`] makes a correct one, and the methods of [`Frame`] then break it where a test wants.
//! What outcome it must have belongs to [`super::table`] and [`super::oracle`].
//!
//! ```
//! use tracker_tests::frames::build::{Peers, Recipe};
//! use tracker_tests::frames::numbers::{QINQ, SYN, VLAN};
//!
//! let frame = Recipe::ipv4(&Peers::default()).tags(&[QINQ, VLAN]).tcp(SYN).build();
//! assert_eq!((frame.network, frame.transport), (22, 42));
//! assert_eq!(frame.ihl(0).bytes[22], 0x40);
//! ```
#![forbid(unsafe_code)]

mod extension;
mod frame;
mod network;
mod transport;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use extension::Extension;
pub use frame::Frame;

use super::numbers::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6};

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Ethernet address of the sender.
    pub source_mac: [u8; 6],
    /// Ethernet address of the receiver.
    pub destination_mac: [u8; 6],
    /// IPv4 address of the sender.
    pub source_ipv4: Ipv4Addr,
    /// IPv4 address of the receiver.
    pub destination_ipv4: Ipv4Addr,
    /// IPv6 address of the sender.
    pub source_ipv6: Ipv6Addr,
    /// IPv6 address of the receiver.
    pub destination_ipv6: Ipv6Addr,
    /// TCP or UDP port of the sender.
    pub source_port: u16,
    /// TCP or UDP port of the receiver.
    pub destination_port: u16,
}

impl Default for Peers {
    /// Addresses that are reserved for documentation (RFC 5737, RFC 3849).
    fn default() -> Self {
        Self {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source_ipv4: Ipv4Addr::new(192, 0, 2, 1),
            destination_ipv4: Ipv4Addr::new(198, 51, 100, 2),
            source_ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
            destination_ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
            source_port: 40_000,
            destination_port: 80,
        }
    }
}

/// What stands behind the Ethernet header and its tags.
#[derive(Clone, Debug)]
enum Network {
    Ipv4 { options: Vec<u8>, fragment: Option<(u16, bool)> },
    Ipv6 { extensions: Vec<Extension> },
    Other { ethertype: u16 },
}

/// What stands behind the network header.
#[derive(Clone, Debug)]
enum Transport {
    Tcp { flags: u8, options: Vec<u8> },
    Udp,
    Echo { protocol: u8 },
    Raw { protocol: u8 },
}

/// A correct frame, described.
#[derive(Clone, Debug)]
pub struct Recipe {
    peers: Peers,
    tags: Vec<u16>,
    network: Network,
    transport: Transport,
    payload: Vec<u8>,
}

impl Recipe {
    fn new(peers: &Peers, network: Network) -> Self {
        Self {
            peers: *peers,
            tags: Vec::new(),
            network,
            transport: Transport::Raw { protocol: 0 },
            payload: Vec::new(),
        }
    }

    /// An IPv4 packet.
    #[must_use]
    pub fn ipv4(peers: &Peers) -> Self {
        Self::new(peers, Network::Ipv4 { options: Vec::new(), fragment: None })
    }

    /// An IPv6 packet.
    #[must_use]
    pub fn ipv6(peers: &Peers) -> Self {
        Self::new(peers, Network::Ipv6 { extensions: Vec::new() })
    }

    /// A frame of another protocol; below 1536 `ethertype` is the length field of IEEE 802.3.
    #[must_use]
    pub fn other(peers: &Peers, ethertype: u16) -> Self {
        Self::new(peers, Network::Other { ethertype })
    }

    /// An ARP request of the sender for the receiver's IPv4 address.
    #[must_use]
    pub fn arp(peers: &Peers) -> Self {
        Self::other(peers, ETHERTYPE_ARP).payload(&network::arp_request(peers))
    }

    /// The tags, outermost first, each by its `EtherType`; they get the VLAN ids 1, 2 and so on.
    #[must_use]
    pub fn tags(mut self, ethertypes: &[u16]) -> Self {
        self.tags = ethertypes.to_vec();
        self
    }

    /// IPv4 options, at most 40 bytes; filled up with End of Option List to a multiple of four.
    #[must_use]
    pub fn ip_options(mut self, bytes: &[u8]) -> Self {
        if let Network::Ipv4 { options, .. } = &mut self.network {
            *options = bytes.to_vec();
            options.resize(bytes.len().next_multiple_of(4), 0);
        }
        self
    }

    /// Makes an IPv4 packet a fragment: its offset in units of eight bytes, and whether more follow.
    #[must_use]
    pub fn ip_fragment(mut self, offset: u16, more: bool) -> Self {
        if let Network::Ipv4 { fragment, .. } = &mut self.network {
            *fragment = Some((offset, more));
        }
        self
    }

    /// The IPv6 extension headers.
    #[must_use]
    pub fn extensions(mut self, chain: &[Extension]) -> Self {
        if let Network::Ipv6 { extensions } = &mut self.network {
            *extensions = chain.to_vec();
        }
        self
    }

    /// A TCP segment.
    #[must_use]
    pub fn tcp(mut self, flags: u8) -> Self {
        self.transport = Transport::Tcp { flags, options: Vec::new() };
        self
    }

    /// TCP options, at most 40 bytes; filled up with End of Option List to a multiple of four.
    #[must_use]
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        if let Transport::Tcp { options, .. } = &mut self.transport {
            *options = bytes.to_vec();
        }
        self
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(mut self) -> Self {
        self.transport = Transport::Udp;
        self
    }

    /// An ICMP echo request.
    #[must_use]
    pub fn icmp(mut self) -> Self {
        self.transport = Transport::Echo { protocol: ICMP };
        self
    }

    /// An `ICMPv6` echo request.
    #[must_use]
    pub fn icmpv6(mut self) -> Self {
        self.transport = Transport::Echo { protocol: ICMPV6 };
        self
    }

    /// Another protocol, whose header is the payload's matter.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.transport = Transport::Raw { protocol };
        self
    }

    /// What the transport header carries.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// The frame, with correct lengths and checksums.
    #[must_use]
    pub fn build(&self) -> Frame {
        let ethertype = match self.network {
            Network::Ipv4 { .. } => ETHERTYPE_IPV4,
            Network::Ipv6 { .. } => ETHERTYPE_IPV6,
            Network::Other { ethertype } => ethertype,
        };
        let mut bytes = network::ethernet(&self.peers, &self.tags, ethertype);
        let network = bytes.len();
        let segment = transport::segment(&self.peers, &self.network, &self.transport, &self.payload);
        match &self.network {
            Network::Ipv4 { options, fragment } => {
                network::ipv4(&mut bytes, &self.peers, options, *fragment, self.transport.protocol(), segment.len());
            }
            Network::Ipv6 { extensions } => {
                network::ipv6(&mut bytes, &self.peers, extensions, self.transport.protocol(), segment.len());
            }
            Network::Other { .. } => {}
        }
        let transport = bytes.len();
        bytes.extend(segment);
        Frame { bytes, network, transport }
    }
}
