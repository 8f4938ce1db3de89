//! What a packet can be.

named! {
    /// What a packet is. Every packet has exactly one outcome.
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
        /// A fragment without a whole transport header. A first fragment with a whole TCP or UDP header has the outcome
        /// of that header.
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
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// FIN, SYN, RST, PSH, ACK, URG; ECE and CWR say nothing about what a segment is.
const FLAGS: u8 = 0x3f;

impl Outcome {
    /// The outcome of a TCP segment with these flags.
    #[inline(always)]
    pub(crate) fn of_tcp_flags(flags: u8) -> Self {
        let flags = flags & FLAGS;
        // What most packets are is asked first.
        if flags & (SYN | FIN | RST | ACK) == ACK {
            return Self::TcpAck;
        }
        if flags & (SYN | FIN | RST) == 0 {
            return if flags == 0 { Self::MalformedNoFlags } else { Self::TcpOther };
        }
        if flags & SYN == 0 {
            return if flags & RST != 0 { Self::TcpRst } else { Self::TcpFin };
        }
        match flags {
            _ if flags & FIN != 0 => Self::MalformedSynFin,
            _ if flags & RST != 0 => Self::MalformedSynRst,
            _ if flags & ACK != 0 => Self::TcpSynAck,
            _ => Self::TcpSyn,
        }
    }
}

named! {
    /// Network protocol of a packet.
    pub enum Family {
        /// Neither, or the frame ended before its protocol.
        None = 0,
        /// By its `EtherType`, IPv4.
        Ipv4 = 1,
        /// By its `EtherType`, IPv6.
        Ipv6 = 2,
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
