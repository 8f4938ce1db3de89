//! Headers as they stand in packets, and how they are read: alike in the kernel and in the tests.

/// Length of an Ethernet header.
pub(crate) const ETHERNET_HEADER: usize = 14;
/// Length of a VLAN tag.
pub(crate) const VLAN_TAG: usize = 4;
/// Length of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options.
pub(crate) const TCP_HEADER: usize = 20;
/// Length of a UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// RFC 792, RFC 4443: what all messages have, of both versions.
pub(crate) const ICMP_HEADER: usize = 8;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100;
/// IEEE 802.1ad service tag, the outer one of `QinQ`.
pub(crate) const ETHERTYPE_QINQ: u16 = 0x88a8;

/// RFC 791, section 3.1: the flag and the offset, of one word.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// A header as it stands in a packet, its numbers in network byte order.
///
/// # Safety
/// Any bytes are a value of an implementor: an integer, or an array or `#[repr(C)]` struct of them without padding.
pub unsafe trait Header: Copy {}

/// Read access to the bytes of one frame.
///
/// Whole headers are read, not bytes: one check of bounds is enough for each, and the kernel's verifier can follow it.
pub trait Frame {
    /// Bytes of the frame as received, also of those that cannot be read here (pages of a non-linear buffer).
    fn length(&self) -> usize;
    /// Whether the kernel merged this packet from several or has yet to split it (GRO, GSO): an IP length of zero then
    /// stands for the whole buffer (`iph_totlen` in the kernel's `include/linux/ip.h`).
    fn is_offloaded(&self) -> bool;
    /// The header at `offset`, if all of it can be read.
    fn header<H: Header>(&self, offset: usize) -> Option<H>;
}

impl Frame for [u8] {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn is_offloaded(&self) -> bool {
        false
    }

    #[inline]
    fn header<H: Header>(&self, offset: usize) -> Option<H> {
        let bytes = self.get(offset..offset + size_of::<H>())?;
        // SAFETY: `bytes` has the size of an H, and any bytes are a value of it.
        Some(unsafe { bytes.as_ptr().cast::<H>().read_unaligned() })
    }
}

// SAFETY: an array of integers.
unsafe impl Header for [u32; 2] {}
// SAFETY: an array of integers.
unsafe impl Header for [u64; 4] {}

/// `EtherType` or the type behind a VLAN tag.
pub(crate) type EtherType = u16;
// SAFETY: an integer.
unsafe impl Header for u16 {}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4Header {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: u16,
    pub(crate) identification: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: [u16; 2],
    pub(crate) destination: [u16; 2],
}
// SAFETY: `#[repr(C)]` and integers alone; its size, asserted below, is the sum of theirs, so there is no padding.
unsafe impl Header for Ipv4Header {}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6Header {
    pub(crate) version: u8,
    pub(crate) class_and_flow: [u8; 3],
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: [u16; 8],
    pub(crate) destination: [u16; 8],
}
// SAFETY: `#[repr(C)]` and integers alone; its size, asserted below, is the sum of theirs, so there is no padding.
unsafe impl Header for Ipv6Header {}

/// The start that all IPv6 extension headers share, and the offset field of a fragment header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ExtensionHeader {
    pub(crate) next_header: u8,
    pub(crate) length: u8,
    pub(crate) fragment: u16,
    pub(crate) rest: [u16; 2],
}
// SAFETY: `#[repr(C)]` and integers alone; its size, asserted below, is the sum of theirs, so there is no padding.
unsafe impl Header for ExtensionHeader {}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TcpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: [u16; 2],
    pub(crate) acknowledgement: [u16; 2],
    pub(crate) offset_flags: u16,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}
// SAFETY: `#[repr(C)]` and integers alone; its size, asserted below, is the sum of theirs, so there is no padding.
unsafe impl Header for TcpHeader {}

impl TcpHeader {
    /// Length of the header in bytes, and its flags.
    #[inline(always)]
    pub(crate) fn length_and_flags(self) -> (usize, u8) {
        let offset_flags = u16::from_be(self.offset_flags);
        #[expect(clippy::cast_possible_truncation, reason = "the flags are the low byte")]
        ((offset_flags >> 12) as usize * 4, offset_flags as u8)
    }
}

const _: () = assert!(
    size_of::<Ipv4Header>() == IPV4_HEADER
        && size_of::<Ipv6Header>() == IPV6_HEADER
        && size_of::<ExtensionHeader>() == 8
        && size_of::<TcpHeader>() == TCP_HEADER
);
