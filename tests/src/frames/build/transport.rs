//! TCP, UDP and ICMP headers with their checksums.

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, TcpHeader, TcpOptions, UdpHeader,
};

use super::{Network, Peers, Transport};
use crate::frames::numbers::{ACK, CWR, ECE, FIN, ICMP, PSH, RST, SYN, TCP, UDP, URG};

impl Transport {
    pub(super) fn protocol(&self) -> u8 {
        match self {
            Self::Tcp { .. } => TCP,
            Self::Udp => UDP,
            Self::Echo { protocol } | Self::Raw { protocol } => *protocol,
        }
    }
}

/// The transport header and its payload.
pub(super) fn segment(peers: &Peers, network: &Network, transport: &Transport, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match transport {
        Transport::Tcp { flags, options } => tcp(peers, network, *flags, options, payload),
        Transport::Udp => udp(peers, network, payload),
        Transport::Echo { protocol } => echo(peers, *protocol, payload),
        Transport::Raw { .. } => Vec::new(),
    };
    bytes.extend(payload);
    bytes
}

fn tcp(peers: &Peers, network: &Network, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(peers.source_port, peers.destination_port, 0x0102_0304, 64_240);
    header.fin = flags & FIN != 0;
    header.syn = flags & SYN != 0;
    header.rst = flags & RST != 0;
    header.psh = flags & PSH != 0;
    header.ack = flags & ACK != 0;
    header.urg = flags & URG != 0;
    header.ece = flags & ECE != 0;
    header.cwr = flags & CWR != 0;
    header.options = TcpOptions::try_from_slice(options).expect("at most 40 bytes of options");
    header.checksum = match network {
        Network::Ipv6 { .. } => {
            header.calc_checksum_ipv6_raw(peers.source_ipv6.octets(), peers.destination_ipv6.octets(), payload)
        }
        _ => header.calc_checksum_ipv4_raw(peers.source_ipv4.octets(), peers.destination_ipv4.octets(), payload),
    }
    .expect("the payload fits into a packet");
    header.to_bytes().to_vec()
}

fn udp(peers: &Peers, network: &Network, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + UdpHeader::LEN).expect("the payload fits into a packet");
    let mut header =
        UdpHeader { source_port: peers.source_port, destination_port: peers.destination_port, length, checksum: 0 };
    header.checksum = match network {
        Network::Ipv6 { .. } => {
            header.calc_checksum_ipv6_raw(peers.source_ipv6.octets(), peers.destination_ipv6.octets(), payload)
        }
        _ => header.calc_checksum_ipv4_raw(peers.source_ipv4.octets(), peers.destination_ipv4.octets(), payload),
    }
    .expect("the payload fits into a packet");
    header.to_bytes().to_vec()
}

fn echo(peers: &Peers, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    if protocol == ICMP {
        return Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload).to_bytes().to_vec();
    }
    let (source, destination) = (peers.source_ipv6.octets(), peers.destination_ipv6.octets());
    Icmpv6Header::with_checksum(Icmpv6Type::EchoRequest(echo), source, destination, payload)
        .expect("the payload fits into a packet")
        .to_bytes()
        .to_vec()
}
