//! A second opinion on any bytes, from etherparse.
//!
//! Lengths, fragment fields, header chains and TCP fields are read by etherparse's slices. The rest of this file says
//! where etherparse and [`Outcome`]'s definitions go different ways:
//!
//! - etherparse takes `EtherType` 0x9100 for a VLAN tag and opens `MACsec`; tracker walks 802.1Q and 802.1ad tags, two
//!   at most. So tags are taken one by one.
//! - It reads an IPv6 payload length of zero as "to the end of the bytes" and forgives IP lengths that the bytes do not
//!   reach. So the payload is bounded here, by the length that etherparse read.
//! - It refuses hop-by-hop options that are not first, knows no limit of extension headers, and its chain ends at
//!   mobility, HIP and Shim6 headers. So the chain's headers are taken one by one.
//! - It opens an authentication header in IPv4, which is just another protocol for tracker.
//! - It checks the length fields of UDP and of ICMP timestamps, which are no IP lengths and of no interest here.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use etherparse::{
    EtherType, Ethernet2Slice, Icmpv6Slice, IpAuthHeaderSlice, IpNumber, Ipv4Header, Ipv4HeaderSlice,
    Ipv6FragmentHeaderSlice, Ipv6Header, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanSlice, TcpSlice,
    UdpHeaderSlice, err, ip_number,
};
use tracker_common::classify::{Family, Outcome};
use tracker_common::limits::{IPV6_EXTENSION_HEADERS, VLAN_TAGS};

/// What etherparse makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome it must have.
    pub outcome: Outcome,
    /// Its network protocol.
    pub family: Family,
    /// Address and port that a whole TCP header is meant for.
    pub destination: Option<SocketAddr>,
}

/// Outcome and family of any bytes that are said to be an Ethernet frame.
#[must_use]
pub fn classify(frame: &[u8]) -> (Outcome, Family) {
    let verdict = judge(frame);
    (verdict.outcome, verdict.family)
}

/// What any bytes are that are said to be an Ethernet frame.
#[must_use]
pub fn judge(frame: &[u8]) -> Verdict {
    let packet = match untagged(frame) {
        Ok(packet) => packet,
        Err(outcome) => return Verdict { outcome, family: Family::None, destination: None },
    };
    match packet {
        (EtherType::IPV4, bytes) => ipv4(bytes),
        (EtherType::IPV6, bytes) => ipv6(bytes),
        _ => Verdict { outcome: Outcome::NonIp, family: Family::None, destination: None },
    }
}

/// The packet behind the Ethernet header and its tags.
fn untagged(frame: &[u8]) -> Result<(EtherType, &[u8]), Outcome> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| Outcome::Truncated)?;
    let mut inner = ethernet.payload();
    let mut tags = 0;
    while matches!(inner.ether_type, EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING) {
        if tags == VLAN_TAGS {
            return Err(Outcome::Unparsed);
        }
        inner = SingleVlanSlice::from_slice(inner.payload).map_err(|_| Outcome::Truncated)?.payload();
        tags += 1;
    }
    Ok((inner.ether_type, inner.payload))
}

fn ipv4(packet: &[u8]) -> Verdict {
    let judged = |outcome| Verdict { outcome, family: Family::Ipv4, destination: None };
    if packet.len() < Ipv4Header::MIN_LEN {
        return judged(Outcome::Truncated);
    }
    // etherparse opens no header whose options are cut off, but its lengths decide what is wrong: too short a frame, or
    // a header that does not fit into its packet. So it reads the header from a copy that always holds 60 bytes.
    let mut whole = [0; Ipv4Header::MAX_LEN];
    for (slot, byte) in whole.iter_mut().zip(packet) {
        *slot = *byte;
    }
    let Ok(header) = Ipv4HeaderSlice::from_slice(&whole) else {
        return judged(Outcome::MalformedLength);
    };
    let Ok(length) = header.payload_len() else {
        return judged(Outcome::MalformedLength);
    };
    let Some(payload) = packet.get(header.slice().len()..).and_then(|rest| rest.get(..usize::from(length))) else {
        return judged(Outcome::Truncated);
    };
    if header.fragments_offset().value() != 0 {
        return judged(Outcome::Fragment);
    }
    let carried = Carried { protocol: header.protocol(), payload, fragmented: header.is_fragmenting_payload() };
    let (outcome, port) = carried.outcome(ip_number::ICMP);
    let destination = port.map(|port| SocketAddr::from((header.destination_addr(), port)));
    Verdict { outcome, family: Family::Ipv4, destination }
}

fn ipv6(packet: &[u8]) -> Verdict {
    let judged = |outcome| Verdict { outcome, family: Family::Ipv6, destination: None };
    let header = match Ipv6HeaderSlice::from_slice(packet) {
        Ok(header) => header,
        Err(err::ipv6::HeaderSliceError::Len(_)) => return judged(Outcome::Truncated),
        Err(err::ipv6::HeaderSliceError::Content(_)) => return judged(Outcome::MalformedLength),
    };
    let length = usize::from(header.payload_length());
    let Some(payload) = packet[Ipv6Header::LEN..].get(..length) else {
        return judged(Outcome::Truncated);
    };
    let first = Carried { protocol: header.next_header(), payload, fragmented: false };
    match first.behind_extensions() {
        Ok(carried) => {
            let (outcome, port) = carried.outcome(ip_number::IPV6_ICMP);
            let destination = port.map(|port| SocketAddr::from((header.destination_addr(), port)));
            Verdict { outcome, family: Family::Ipv6, destination }
        }
        Err(outcome) => judged(outcome),
    }
}

/// What an IP header, or an extension header, carries.
#[derive(Clone, Copy)]
struct Carried<'a> {
    protocol: IpNumber,
    payload: &'a [u8],
    fragmented: bool,
}

impl Carried<'_> {
    fn behind_extensions(self) -> Result<Self, Outcome> {
        let steps = std::iter::successors(Some(Ok(self)), |step| step.as_ref().ok()?.behind_extension());
        let walked = steps.take(IPV6_EXTENSION_HEADERS + 1).last().unwrap_or(Ok(self))?;
        // One more would have been walked, had there been no limit.
        if walked.behind_extension().is_some() { Err(Outcome::Unparsed) } else { Ok(walked) }
    }

    /// What the extension header at hand carries; `None` if the protocol is no extension header.
    fn behind_extension(&self) -> Option<Result<Self, Outcome>> {
        Some(match self.protocol {
            ip_number::IPV6_FRAG => self.behind_fragment(),
            ip_number::AUTH => self.behind_authentication(),
            other if Ipv6RawExtHeaderSlice::header_type_supported(other) => {
                Ipv6RawExtHeaderSlice::from_slice(self.payload)
                    .map_err(|_| self.cut_off())
                    .map(|header| self.behind(header.next_header(), header.slice()))
            }
            _ => return None,
        })
    }

    fn behind_fragment(&self) -> Result<Self, Outcome> {
        let header = Ipv6FragmentHeaderSlice::from_slice(self.payload).map_err(|_| self.cut_off())?;
        if header.fragment_offset().value() != 0 {
            return Err(Outcome::Fragment);
        }
        let behind = self.behind(header.next_header(), header.slice());
        Ok(Self { fragmented: self.fragmented || header.is_fragmenting_payload(), ..behind })
    }

    fn behind_authentication(&self) -> Result<Self, Outcome> {
        use err::ip_auth::HeaderSliceError::{Content, Len};
        match IpAuthHeaderSlice::from_slice(self.payload) {
            Ok(header) => Ok(self.behind(header.next_header(), header.slice())),
            Err(Content(_)) => Err(Outcome::MalformedLength),
            // etherparse asks for the fixed part before it looks at the length. Eight bytes of it tell a length that
            // cannot be, as those of all extension headers do.
            Err(Len(_)) if matches!(self.payload, [_, 0, _, _, _, _, _, _, ..]) => Err(Outcome::MalformedLength),
            Err(Len(_)) => Err(self.cut_off()),
        }
    }

    fn behind(&self, protocol: IpNumber, header: &[u8]) -> Self {
        Self { protocol, payload: &self.payload[header.len()..], fragmented: self.fragmented }
    }

    /// A header that goes on behind the packet's end goes on in the next fragment, if there is one.
    fn cut_off(&self) -> Outcome {
        if self.fragmented { Outcome::Fragment } else { Outcome::MalformedLength }
    }

    /// Outcome by the transport header, and the port that TCP's is meant for.
    fn outcome(&self, icmp: IpNumber) -> (Outcome, Option<u16>) {
        let whole = |whole: bool, outcome| if whole { outcome } else { self.cut_off() };
        match self.protocol {
            ip_number::TCP => match TcpSlice::from_slice(self.payload) {
                Ok(tcp) => (segment(&tcp), Some(tcp.destination_port())),
                Err(err::tcp::HeaderSliceError::Content(_)) => (Outcome::MalformedLength, None),
                Err(err::tcp::HeaderSliceError::Len(_)) => (self.cut_off(), None),
            },
            ip_number::UDP => (whole(UdpHeaderSlice::from_slice(self.payload).is_ok(), Outcome::Udp), None),
            // ICMP's first eight bytes are alike in both versions, and ICMPv6's slice minds nothing else.
            other if other == icmp => (whole(Icmpv6Slice::from_slice(self.payload).is_ok(), Outcome::Icmp), None),
            _ => (Outcome::OtherProtocol, None),
        }
    }
}

/// Outcome by TCP's flags, as the documentation of [`Outcome`] words it, each by itself.
fn segment(tcp: &TcpSlice<'_>) -> Outcome {
    let (syn, ack, fin, rst) = (tcp.syn(), tcp.ack(), tcp.fin(), tcp.rst());
    let other = tcp.psh() || tcp.urg();
    match (syn, fin, rst, ack) {
        (true, true, _, _) => Outcome::MalformedSynFin,
        (true, false, true, _) => Outcome::MalformedSynRst,
        (true, false, false, true) => Outcome::TcpSynAck,
        (true, false, false, false) => Outcome::TcpSyn,
        (false, _, true, _) => Outcome::TcpRst,
        (false, true, false, _) => Outcome::TcpFin,
        (false, false, false, true) => Outcome::TcpAck,
        (false, false, false, false) if other => Outcome::TcpOther,
        (false, false, false, false) => Outcome::MalformedNoFlags,
    }
}
