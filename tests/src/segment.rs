//! TCP segments as whole frames, to be sent by a [`PacketSocket`](crate::packet_socket::PacketSocket).

use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, TcpHeader};

use crate::link::{End, Tag};

/// How a frame of our own gets from one end of a link to the other.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Where it is sent.
    pub from: &'a End,
    /// Where it arrives.
    pub to: &'a End,
}

impl Route<'_> {
    /// A SYN.
    #[must_use]
    pub fn syn(&self, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        self.segment(source, destination, |header| header.syn = true)
    }

    /// A SYN from a port of the sending end to one of the other's.
    #[must_use]
    pub fn syn_between(&self, family: crate::Family, source_port: u16, destination_port: u16) -> Vec<u8> {
        self.syn(self.from.socket(family, source_port), self.to.socket(family, destination_port))
    }

    /// A segment without data, whose header `adjust` completes.
    ///
    /// # Panics
    /// When the addresses are not of one family.
    #[must_use]
    pub fn segment(&self, source: SocketAddr, destination: SocketAddr, adjust: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        let mut header = TcpHeader::new(source.port(), destination.port(), 1_000_000, 64_240);
        adjust(&mut header);
        let ethernet = PacketBuilder::ethernet2(self.from.mac, self.to.mac);
        let packet = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet.ipv4(source.octets(), destination.octets(), 64),
            (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet.ipv6(source.octets(), destination.octets(), 64),
            _ => panic!("{source} and {destination} are not of one family"),
        };
        let packet = packet.tcp_header(header);
        let mut frame = Vec::with_capacity(packet.size(0));
        packet.write(&mut frame, &[]).expect("a small segment, written to memory");
        frame
    }
}

/// The frame with tags behind its addresses, the outermost first.
#[must_use]
pub fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tags: Vec<u8> =
        tags.iter().flat_map(|tag| [tag.kind.to_be_bytes(), tag.vlan.to_be_bytes()]).flatten().collect();
    [addresses, &tags, rest].concat()
}
