//! Ethernet, VLAN, ARP and IP headers.

use etherparse::checksum::Sum16BitWords;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType};

use super::{Extension, Peers};

/// An Ethernet header with its tags.
pub(super) fn ethernet(peers: &Peers, tags: &[u16], ethertype: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(peers.destination_mac);
    bytes.extend(peers.source_mac);
    for (tag, id) in tags.iter().zip(1_u16..) {
        bytes.extend(tag.to_be_bytes());
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

/// The ARP request of the sender for the receiver's IPv4 address.
pub(super) fn arp_request(peers: &Peers) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &peers.source_mac,
        &peers.source_ipv4.octets(),
        &[0; 6],
        &peers.destination_ipv4.octets(),
    );
    packet.map(|packet| packet.to_bytes().to_vec()).unwrap_or_default()
}

/// Appends an IPv4 header for `length` bytes of payload.
pub(super) fn ipv4(
    bytes: &mut Vec<u8>,
    peers: &Peers,
    options: &[u8],
    fragment: Option<(u16, bool)>,
    protocol: u8,
    length: usize,
) {
    let start = bytes.len();
    let header = 20 + options.len();
    let dont_fragment = 0x4000;
    let field = fragment.map_or(dont_fragment, |(offset, more)| offset | u16::from(more) << 13);
    bytes.extend([0x40 | narrow::<u8>(header / 4), 0]);
    bytes.extend(narrow::<u16>(header + length).to_be_bytes());
    bytes.extend(0x1234_u16.to_be_bytes());
    bytes.extend(field.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(peers.source_ipv4.octets());
    bytes.extend(peers.destination_ipv4.octets());
    bytes.extend(options);
    seal(&mut bytes[start..]);
}

/// Writes the checksum of an IPv4 header of at least 20 bytes.
pub(super) fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = Sum16BitWords::new().add_slice(header).ones_complement();
    // The sum is kept in the byte order in which it was read.
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}

/// Appends an IPv6 header and its extension headers for `length` bytes of payload.
pub(super) fn ipv6(bytes: &mut Vec<u8>, peers: &Peers, extensions: &[Extension], protocol: u8, length: usize) {
    let start = bytes.len();
    let first = extensions.first().map_or(protocol, |extension| extension.protocol());
    bytes.extend([0x60, 0, 0, 0, 0, 0, first, 64]);
    bytes.extend(peers.source_ipv6.octets());
    bytes.extend(peers.destination_ipv6.octets());
    for (index, extension) in extensions.iter().enumerate() {
        let next = extensions.get(index + 1).map_or(protocol, |next| next.protocol());
        extension.write(bytes, next);
    }
    let payload = bytes.len() - start - 40 + length;
    bytes[start + 4..start + 6].copy_from_slice(&narrow::<u16>(payload).to_be_bytes());
}

/// A length in the field that states it. A recipe that does not fit is a mistake of the test.
fn narrow<T: TryFrom<usize>>(length: usize) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(length).expect("the header states this length")
}
