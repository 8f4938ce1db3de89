//! Classification of one received packet: pure, total, and the same code in the kernel and in the tests.

use crate::{
    fast_path,
    frame::{
        ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, EtherType, ExtensionHeader,
        FRAGMENT_OFFSET, ICMP, ICMP_HEADER, ICMPV6, IPV4_HEADER, IPV6_HEADER, Ipv4Header, Ipv6Header, MORE_FRAGMENTS,
        TCP, TCP_HEADER, TcpHeader, UDP, UDP_HEADER, VLAN_TAG,
    },
    limits::{IPV6_EXTENSION_HEADERS, VLAN_TAGS},
};
pub use crate::{
    frame::{Frame, Header},
    outcome::{Family, Outcome, Packet},
};

/// Classifies a frame that begins with an Ethernet header.
#[inline(always)]
pub fn ethernet<F: Frame + ?Sized>(frame: &F) -> Packet {
    let packet = match frame.header::<EtherType>(ETHERNET_HEADER - 2).map(u16::from_be) {
        Some(ETHERTYPE_VLAN) => fast_path::classify(frame, ETHERNET_HEADER + VLAN_TAG),
        _ => fast_path::classify(frame, ETHERNET_HEADER),
    };
    if let Some(packet) = packet { packet } else { any_ethernet(frame) }
}

/// What [`ethernet`] says, header by header. Public so that it can be compared with the fast path.
#[inline(always)]
pub fn any_ethernet<F: Frame + ?Sized>(frame: &F) -> Packet {
    let mut offset = ETHERNET_HEADER;
    let Some(mut ethertype) = frame.header::<EtherType>(ETHERNET_HEADER - 2).map(u16::from_be) else {
        return without_ip(unreadable(frame, ETHERNET_HEADER));
    };
    let mut tags = 0;
    while ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        if tags == VLAN_TAGS {
            return without_ip(Outcome::Unparsed);
        }
        tags += 1;
        offset += VLAN_TAG;
        let Some(inner) = frame.header::<EtherType>(offset - 2).map(u16::from_be) else {
            return without_ip(unreadable(frame, offset));
        };
        ethertype = inner;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, offset),
        ETHERTYPE_IPV6 => ipv6(frame, offset),
        _ => without_ip(Outcome::NonIp),
    }
}

/// Classifies a packet that begins with its IP header (tun, `WireGuard`, IP tunnels).
#[inline(always)]
pub fn raw_ip<F: Frame + ?Sized>(frame: &F) -> Packet {
    match frame.header::<u16>(0).map(|word| u16::from_be(word) >> 12) {
        Some(4) => ipv4(frame, 0),
        Some(6) => ipv6(frame, 0),
        Some(_) => without_ip(Outcome::NonIp),
        None => without_ip(unreadable(frame, 2)),
    }
}

#[inline(always)]
fn without_ip(outcome: Outcome) -> Packet {
    Packet { outcome, family: Family::None, network: 0, transport: 0 }
}

/// Why bytes up to `end` could not be read: the frame is too short, or the hook does not have them at hand.
#[inline(always)]
fn unreadable<F: Frame + ?Sized>(frame: &F, end: usize) -> Outcome {
    if end > frame.length() { Outcome::Truncated } else { Outcome::Unparsed }
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, network: usize) -> Packet {
    let (outcome, transport) = match ipv4_transport(frame, network) {
        Ok(transport) => (transport.outcome(frame, ICMP), transport.start),
        Err(outcome) => (outcome, 0),
    };
    Packet { outcome, family: Family::Ipv4, network, transport }
}

#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, network: usize) -> Packet {
    let (outcome, transport) = match ipv6_transport(frame, network) {
        Ok(transport) => (transport.outcome(frame, ICMPV6), transport.start),
        Err(outcome) => (outcome, 0),
    };
    Packet { outcome, family: Family::Ipv6, network, transport }
}

/// RFC 791, section 3.1.
#[inline(always)]
fn ipv4_transport<F: Frame + ?Sized>(frame: &F, network: usize) -> Result<Transport, Outcome> {
    let Some(header) = frame.header::<Ipv4Header>(network) else {
        return Err(unreadable(frame, network + IPV4_HEADER));
    };
    let header_length = (header.version_ihl & 0x0f) as usize * 4;
    let total = u16::from_be(header.total_length) as usize;
    let fragment = u16::from_be(header.fragment);
    if header.version_ihl >> 4 != 4 || header_length < IPV4_HEADER {
        return Err(Outcome::MalformedLength);
    }
    let end = if total == 0 && frame.is_offloaded() { frame.length() } else { network + total };
    let start = network + header_length;
    if start > end {
        return Err(Outcome::MalformedLength);
    }
    if end > frame.length() {
        return Err(Outcome::Truncated);
    }
    if fragment & FRAGMENT_OFFSET != 0 {
        return Err(Outcome::Fragment);
    }
    Ok(Transport { protocol: header.protocol, start, end, fragmented: fragment & MORE_FRAGMENTS != 0 })
}

/// RFC 8200, section 4. An ESP header (RFC 4303) ends the walk: what follows is encrypted.
#[expect(clippy::too_many_lines, reason = "the verifier follows one flat function with fewer states")]
#[inline(always)]
fn ipv6_transport<F: Frame + ?Sized>(frame: &F, network: usize) -> Result<Transport, Outcome> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM6: u8 = 140;

    let mut start = network + IPV6_HEADER;
    let Some(header) = frame.header::<Ipv6Header>(network) else {
        return Err(unreadable(frame, start));
    };
    let payload = u16::from_be(header.payload_length) as usize;
    let mut protocol = header.next_header;
    if header.version >> 4 != 6 {
        return Err(Outcome::MalformedLength);
    }
    let end = if payload == 0 && frame.is_offloaded() { frame.length() } else { start + payload };
    if end > frame.length() {
        return Err(Outcome::Truncated);
    }
    let mut fragmented = false;
    let mut walked = 0;
    while matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    ) {
        if walked == IPV6_EXTENSION_HEADERS {
            return Err(Outcome::Unparsed);
        }
        walked += 1;
        // In a fragmented packet the rest of the chain may stand in a later fragment (RFC 7112 forbids it, the field
        // does not).
        let cut_off = if fragmented { Outcome::Fragment } else { Outcome::MalformedLength };
        if start + 8 > end {
            return Err(cut_off);
        }
        let header = frame.header::<ExtensionHeader>(start).ok_or(Outcome::Unparsed)?;
        let units = header.length as usize;
        let length = match protocol {
            FRAGMENT => {
                let field = u16::from_be(header.fragment);
                if field & 0xfff8 != 0 {
                    return Err(Outcome::Fragment);
                }
                // Offset zero and no more to come is an atomic fragment (RFC 6946): a whole packet.
                fragmented |= field & 1 != 0;
                8
            }
            // RFC 4302, 2.2: in 4-octet units minus 2.
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        start += length;
        if start > end {
            return Err(if fragmented { Outcome::Fragment } else { Outcome::MalformedLength });
        }
        // RFC 4302, 2.2: its fixed part has 12 bytes. Asked here because the verifier walks twice as many states if it
        // is asked in the match above.
        if protocol == AUTHENTICATION && units == 0 {
            return Err(Outcome::MalformedLength);
        }
        protocol = header.next_header;
    }
    Ok(Transport { protocol, start, end, fragmented })
}

/// Where the transport header begins, and where IP says the packet ends.
struct Transport {
    protocol: u8,
    start: usize,
    end: usize,
    fragmented: bool,
}

impl Transport {
    #[inline(always)]
    fn outcome<F: Frame + ?Sized>(&self, frame: &F, icmp: u8) -> Outcome {
        match self.protocol {
            TCP => self.tcp(frame),
            UDP if self.start + UDP_HEADER > self.end => self.cut_off(),
            UDP => Outcome::Udp,
            protocol if protocol == icmp && self.start + ICMP_HEADER > self.end => self.cut_off(),
            protocol if protocol == icmp => Outcome::Icmp,
            _ => Outcome::OtherProtocol,
        }
    }

    /// A header that does not fit into the packet: it goes on in the next fragment, or it lies.
    #[inline(always)]
    fn cut_off(&self) -> Outcome {
        if self.fragmented { Outcome::Fragment } else { Outcome::MalformedLength }
    }

    /// RFC 9293, section 3.1.
    #[inline(always)]
    fn tcp<F: Frame + ?Sized>(&self, frame: &F) -> Outcome {
        if self.start + TCP_HEADER > self.end {
            return self.cut_off();
        }
        let Some(header) = frame.header::<TcpHeader>(self.start) else {
            return Outcome::Unparsed;
        };
        let (header_length, flags) = header.length_and_flags();
        if header_length < TCP_HEADER {
            return Outcome::MalformedLength;
        }
        if self.start + header_length > self.end {
            return self.cut_off();
        }
        Outcome::of_tcp_flags(flags)
    }
}
