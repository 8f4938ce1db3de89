//! The fast path of classification: what most frames are, TCP or UDP without options, extension headers or fragments.
//! Their headers are at known offsets, so few checks of bounds are needed. It never disagrees with the long way.

use crate::{
    frame::{
        ETHERTYPE_IPV4, ETHERTYPE_IPV6, EtherType, FRAGMENT_OFFSET, Frame, IPV4_HEADER, IPV6_HEADER, Ipv4Header,
        Ipv6Header, MORE_FRAGMENTS, TCP, TCP_HEADER, TcpHeader, UDP, UDP_HEADER,
    },
    outcome::{Family, Outcome, Packet},
};

/// Classifies an Ethernet frame whose IP header begins at `network`, or returns `None` if it is not of the usual kind.
#[inline(always)]
pub(crate) fn classify<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    match u16::from_be(frame.header::<EtherType>(network - 2)?) {
        ETHERTYPE_IPV4 => ipv4(frame, network),
        ETHERTYPE_IPV6 => ipv6(frame, network),
        _ => None,
    }
}

/// No option, no fragment.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    let header = frame.header::<Ipv4Header>(network)?;
    let total = u16::from_be(header.total_length) as usize;
    let is_fragment = u16::from_be(header.fragment) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0;
    if header.version_ihl != 0x45 || is_fragment || network + total > frame.length() {
        return None;
    }
    let transport = network + IPV4_HEADER;
    let outcome = transport_outcome(frame, header.protocol, transport, network + total)?;
    Some(Packet { outcome, family: Family::Ipv4, network, transport })
}

/// No extension header.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    let header = frame.header::<Ipv6Header>(network)?;
    let transport = network + IPV6_HEADER;
    let end = transport + u16::from_be(header.payload_length) as usize;
    if header.version >> 4 != 6 || end > frame.length() {
        return None;
    }
    let outcome = transport_outcome(frame, header.next_header, transport, end)?;
    Some(Packet { outcome, family: Family::Ipv6, network, transport })
}

/// The outcome of a TCP or UDP header at `start` in a packet that ends at `end`.
#[inline(always)]
fn transport_outcome<F: Frame + ?Sized>(frame: &F, protocol: u8, start: usize, end: usize) -> Option<Outcome> {
    match protocol {
        TCP => {
            let (header_length, flags) = frame.header::<TcpHeader>(start)?.length_and_flags();
            (header_length >= TCP_HEADER && start + header_length <= end).then(|| Outcome::of_tcp_flags(flags))
        }
        UDP => (start + UDP_HEADER <= end).then_some(Outcome::Udp),
        _ => None,
    }
}
