//! Headers as they stand in packets, and how they are read: alike in the kernel and in the tests.

/// Length of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options.
pub(crate) const TCP_HEADER: usize = 20;

/// A header as it stands in a packet, its numbers in network byte order.
///
/// # Safety
/// An implementor is `#[repr(C)]`, without padding, aligned to at most two bytes, and any bytes are a value of it.
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

// SAFETY: integers.
unsafe impl Header for [u32; 2] {}
// SAFETY: integers.
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
// SAFETY: as the trait demands; the size is asserted below.
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
// SAFETY: as the trait demands; the size is asserted below.
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
// SAFETY: as the trait demands; the size is asserted below.
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
// SAFETY: as the trait demands; the size is asserted below.
unsafe impl Header for TcpHeader {}

const _: () = assert!(
    size_of::<Ipv4Header>() == IPV4_HEADER
        && size_of::<Ipv6Header>() == IPV6_HEADER
        && size_of::<ExtensionHeader>() == 8
        && size_of::<TcpHeader>() == TCP_HEADER
);
