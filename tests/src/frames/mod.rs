//! Frames: how to build them, which outcome each must have, a stream of arbitrary ones, and a second opinion on them.
//!
//! [`table`] holds the expectations written by hand, [`oracle`] judges any bytes with another parser than tracker's,
//! and [`generate`] makes the bytes. The same three serve the classifier on the host and the programs in the kernel.
//! Nothing here sends a frame: that is for [`crate::flood`] and [`crate::packet_socket`].

#![forbid(unsafe_code)]

pub mod build;
pub mod generate;
pub mod numbers;
pub mod oracle;
pub mod table;

/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
pub const SHORTEST_IN_KERNEL: usize = 14;

/// Whether `BPF_PROG_TEST_RUN` takes the frame for an XDP program.
#[must_use]
pub fn runs_in_xdp(frame: &[u8]) -> bool {
    frame.len() >= SHORTEST_IN_KERNEL
}

/// Whether `BPF_PROG_TEST_RUN` takes the frame for a classifier: the kernel refuses one that says it is IP, with no tag
/// before, and ends within IP's fixed header (`bpf_prog_test_run_skb`).
#[must_use]
pub fn runs_in_tc(frame: &[u8]) -> bool {
    let header = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 0,
    };
    frame.len() >= SHORTEST_IN_KERNEL + header
}
