//! Frames: how to build them, which outcome each must have, a stream of arbitrary ones, and a second opinion on them.
//!
//! [`table`] holds the expectations written by hand, [`oracle`] judges any bytes with another parser than tracker's,
//! and [`generate`] makes the bytes. The same three serve the classifier on the host and the programs in the kernel.

pub mod build;
pub mod generate;
pub mod numbers;
pub mod oracle;
pub mod table;

/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
pub const SHORTEST_IN_KERNEL: usize = 14;
