//! Classification of one received packet: pure, total, and the same code in the kernel and in the tests.

pub use crate::frame::{Frame, Header};
use crate::{
    frame::{EtherType, ExtensionHeader, IPV4_HEADER, IPV6_HEADER, Ipv4Header, Ipv6Header, TCP_HEADER, TcpHeader},
    limits::{IPV6_EXTENSION_HEADERS, VLAN_TAGS},
};

/// What a packet is. Every packet has exactly one outcome.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// TCP, SYN without ACK: a request for a connection.
    TcpSyn = 0,
    /// TCP, SYN and ACK.
    TcpSynAck = 1,
    /// TCP, ACK without SYN, FIN or RST: data and acknowledgements.
    TcpAck = 2,
    /// TCP, FIN without SYN or RST.
    TcpFin = 3,
    /// TCP, RST without SYN.
    TcpRst = 4,
    /// TCP with PSH or URG alone; no stack sends it.
    TcpOther = 5,
    /// UDP.
    Udp = 6,
    /// `ICMP` over IPv4 or `ICMPv6` over IPv6.
    Icmp = 7,
    /// IP with any other protocol, tunnels and encrypted packets (ESP) among them.
    OtherProtocol = 8,
    /// No IP: ARP, LLDP, IPX and so on.
    NonIp = 9,
    /// A fragment without a whole transport header. A first fragment with a whole TCP or UDP header has the outcome of that header.
    Fragment = 10,
    /// The frame ends before its headers do, or before the length that IP states.
    Truncated = 11,
    /// A header states a length or version that cannot be (IHL or data offset below 5, IP length below its
    /// header, a header that does not fit into the length that IP states).
    MalformedLength = 12,
    /// TCP, SYN and FIN together (and perhaps more).
    MalformedSynFin = 13,
    /// TCP, SYN and RST together without FIN.
    MalformedSynRst = 14,
    /// TCP, none of FIN, SYN, RST, PSH, ACK and URG.
    MalformedNoFlags = 15,
    /// More tags or extension headers than are walked, or headers that the hook cannot read.
    Unparsed = 16,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 17;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TcpSyn,
        Self::TcpSynAck,
        Self::TcpAck,
        Self::TcpFin,
        Self::TcpRst,
        Self::TcpOther,
        Self::Udp,
        Self::Icmp,
        Self::OtherProtocol,
        Self::NonIp,
        Self::Fragment,
        Self::Truncated,
        Self::MalformedLength,
        Self::MalformedSynFin,
        Self::MalformedSynRst,
        Self::MalformedNoFlags,
        Self::Unparsed,
    ];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpSyn => "tcp_syn",
            Self::TcpSynAck => "tcp_syn_ack",
            Self::TcpAck => "tcp_ack",
            Self::TcpFin => "tcp_fin",
            Self::TcpRst => "tcp_rst",
            Self::TcpOther => "tcp_other",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::OtherProtocol => "other_protocol",
            Self::NonIp => "non_ip",
            Self::Fragment => "fragment",
            Self::Truncated => "truncated",
            Self::MalformedLength => "malformed_length",
            Self::MalformedSynFin => "malformed_syn_fin",
            Self::MalformedSynRst => "malformed_syn_rst",
            Self::MalformedNoFlags => "malformed_no_flags",
            Self::Unparsed => "unparsed",
        }
    }
}

/// Network protocol of a packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Neither, or the frame ended before it could be told.
    None = 0,
    /// By its `EtherType`, IPv4.
    Ipv4 = 1,
    /// By its `EtherType`, IPv6.
    Ipv6 = 2,
}

impl Family {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::None, Self::Ipv4, Self::Ipv6];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// A classified packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub outcome: Outcome,
    /// Its network protocol.
    pub family: Family,
    /// Offset of the IP header; meaningful when `family` is not [`Family::None`].
    pub network: usize,
    /// Offset of the TCP header; meaningful when `outcome` is one of TCP's.
    pub transport: usize,
}

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const UDP_HEADER: usize = 8;
/// RFC 792, RFC 4443: what all messages have, of both versions.
const ICMP_HEADER: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// IEEE 802.1ad service tag, the outer one of `QinQ`.
const ETHERTYPE_QINQ: u16 = 0x88a8;

/// RFC 791, section 3.1: the flag and the offset, of one word.
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// FIN, SYN, RST, PSH, ACK, URG; ECE and CWR say nothing about what a segment is.
const FLAGS: u8 = 0x3f;

/// Classifies a frame that begins with an Ethernet header.
#[inline(always)]
pub fn ethernet<F: Frame + ?Sized>(frame: &F) -> Packet {
    let packet = match frame.header::<EtherType>(ETHERNET_HEADER - 2).map(u16::from_be) {
        Some(ETHERTYPE_VLAN) => plain(frame, ETHERNET_HEADER + VLAN_TAG),
        _ => plain(frame, ETHERNET_HEADER),
    };
    if let Some(packet) = packet { packet } else { any_ethernet(frame) }
}

/// What [`ethernet`] says, header by header. Public so that it can be compared with the short way.
#[inline(always)]
pub fn any_ethernet<F: Frame + ?Sized>(frame: &F) -> Packet {
    let mut offset = ETHERNET_HEADER;
    let Some(mut ethertype) = frame.header::<EtherType>(ETHERNET_HEADER - 2).map(u16::from_be) else {
        return outcome_of(unreadable(frame, ETHERNET_HEADER));
    };
    let mut tags = 0;
    while ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        if tags == VLAN_TAGS {
            return outcome_of(Outcome::Unparsed);
        }
        tags += 1;
        offset += VLAN_TAG;
        let Some(inner) = frame.header::<EtherType>(offset - 2).map(u16::from_be) else {
            return outcome_of(unreadable(frame, offset));
        };
        ethertype = inner;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, offset),
        ETHERTYPE_IPV6 => ipv6(frame, offset),
        _ => outcome_of(Outcome::NonIp),
    }
}

/// What [`any_ethernet`] says of most frames, quicker: TCP or UDP, whose headers stand at places that are known beforehand, and
/// nothing about them is out of the ordinary. None for all other frames. `network` is where the IP header begins.
#[inline(always)]
fn plain<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    match u16::from_be(frame.header::<EtherType>(network - 2)?) {
        ETHERTYPE_IPV4 => plain_ipv4(frame, network),
        ETHERTYPE_IPV6 => plain_ipv6(frame, network),
        _ => None,
    }
}

/// No option, no fragment.
#[inline(always)]
fn plain_ipv4<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    let header = frame.header::<Ipv4Header>(network)?;
    let total = u16::from_be(header.total_length) as usize;
    let is_fragment = u16::from_be(header.fragment) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0;
    if header.version_ihl != 0x45 || is_fragment || network + total > frame.length() {
        return None;
    }
    let transport = network + IPV4_HEADER;
    let outcome = plain_transport(frame, header.protocol, transport, network + total)?;
    Some(Packet { outcome, family: Family::Ipv4, network, transport })
}

/// No extension header.
#[inline(always)]
fn plain_ipv6<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Packet> {
    let header = frame.header::<Ipv6Header>(network)?;
    let transport = network + IPV6_HEADER;
    let end = transport + u16::from_be(header.payload_length) as usize;
    if header.version >> 4 != 6 || end > frame.length() {
        return None;
    }
    let outcome = plain_transport(frame, header.next_header, transport, end)?;
    Some(Packet { outcome, family: Family::Ipv6, network, transport })
}

/// The outcome of a TCP or UDP header at `start` in a packet that ends at `end`.
#[inline(always)]
fn plain_transport<F: Frame + ?Sized>(frame: &F, protocol: u8, start: usize, end: usize) -> Option<Outcome> {
    match protocol {
        TCP => {
            let (header_length, flags) = tcp_header(frame.header::<TcpHeader>(start)?);
            (header_length >= TCP_HEADER && start + header_length <= end).then(|| flags_outcome(flags))
        }
        UDP => (start + UDP_HEADER <= end).then_some(Outcome::Udp),
        _ => None,
    }
}

/// Classifies a packet that begins with its IP header (tun, `WireGuard`, IP tunnels).
#[inline(always)]
pub fn raw_ip<F: Frame + ?Sized>(frame: &F) -> Packet {
    match frame.header::<u16>(0).map(|word| u16::from_be(word) >> 12) {
        Some(4) => ipv4(frame, 0),
        Some(6) => ipv6(frame, 0),
        Some(_) => outcome_of(Outcome::NonIp),
        None => outcome_of(unreadable(frame, 2)),
    }
}

#[inline(always)]
fn outcome_of(outcome: Outcome) -> Packet {
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
        // In a fragmented packet the rest of the chain may stand in a later fragment (RFC 7112 forbids it, the field does not).
        let unfit = if fragmented { Outcome::Fragment } else { Outcome::MalformedLength };
        if start + 8 > end {
            return Err(unfit);
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
        // RFC 4302, 2.2: its fixed part has 12 bytes. Asked here because the verifier walks twice as many states if it is
        // asked in the match above.
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
            UDP if self.start + UDP_HEADER > self.end => self.unfit(),
            UDP => Outcome::Udp,
            protocol if protocol == icmp && self.start + ICMP_HEADER > self.end => self.unfit(),
            protocol if protocol == icmp => Outcome::Icmp,
            _ => Outcome::OtherProtocol,
        }
    }

    /// A header that does not fit into the packet: it goes on in the next fragment, or it lies.
    #[inline(always)]
    fn unfit(&self) -> Outcome {
        if self.fragmented { Outcome::Fragment } else { Outcome::MalformedLength }
    }

    /// RFC 9293, section 3.1.
    #[inline(always)]
    fn tcp<F: Frame + ?Sized>(&self, frame: &F) -> Outcome {
        if self.start + TCP_HEADER > self.end {
            return self.unfit();
        }
        let Some(header) = frame.header::<TcpHeader>(self.start) else {
            return Outcome::Unparsed;
        };
        let (header_length, flags) = tcp_header(header);
        if header_length < TCP_HEADER {
            return Outcome::MalformedLength;
        }
        if self.start + header_length > self.end {
            return self.unfit();
        }
        flags_outcome(flags)
    }
}

/// Length of a TCP header in bytes, and its flags.
#[inline(always)]
fn tcp_header(header: TcpHeader) -> (usize, u8) {
    let offset_flags = u16::from_be(header.offset_flags);
    #[expect(clippy::cast_possible_truncation, reason = "the flags are the low byte")]
    ((offset_flags >> 12) as usize * 4, offset_flags as u8)
}

#[inline(always)]
fn flags_outcome(flags: u8) -> Outcome {
    let flags = flags & FLAGS;
    // What most packets are is asked first.
    if flags & (SYN | FIN | RST | ACK) == ACK {
        return Outcome::TcpAck;
    }
    if flags & (SYN | FIN | RST) == 0 {
        return if flags == 0 { Outcome::MalformedNoFlags } else { Outcome::TcpOther };
    }
    if flags & SYN == 0 {
        return if flags & RST != 0 { Outcome::TcpRst } else { Outcome::TcpFin };
    }
    match flags {
        _ if flags & FIN != 0 => Outcome::MalformedSynFin,
        _ if flags & RST != 0 => Outcome::MalformedSynRst,
        _ if flags & ACK != 0 => Outcome::TcpSynAck,
        _ => Outcome::TcpSyn,
    }
}
