//! An endless stream of frames: correct ones of every kind, and what mutations make of them. The same seed makes the
//! same frames. Frames with an outcome written by hand belong to [`super::table`].
//!
//! ```
//! use tracker_tests::frames::{SHORTEST_IN_KERNEL, generate};
//!
//! let frames: Vec<_> = generate::stream(7).take(100).collect();
//! assert!(frames.iter().all(|frame| frame.len() >= SHORTEST_IN_KERNEL && frame.len() <= generate::LONGEST));
//! assert_eq!(frames, generate::stream(7).take(100).collect::<Vec<_>>());
//! ```
#![forbid(unsafe_code)]

mod mutate;
mod recipe;

use fastrand::Rng;

use super::SHORTEST_IN_KERNEL;
use super::build::{Frame, Peers};

/// No frame is longer: Ethernet's header and 1500 bytes.
pub const LONGEST: usize = 1514;

/// Frames that the kernel's test run takes as well as the host.
pub fn stream(seed: u64) -> impl Iterator<Item = Vec<u8>> {
    stream_from(seed, SHORTEST_IN_KERNEL)
}

/// Frames of at least `shortest` bytes; those that mutation made shorter are filled up with zeros.
pub fn stream_from(seed: u64, shortest: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut source = Source { random: Rng::with_seed(seed), peers: Peers::default(), last: Vec::new() };
    std::iter::from_fn(move || {
        let mut bytes = source.frame();
        bytes.truncate(LONGEST);
        if bytes.len() < shortest {
            bytes.resize(shortest, 0);
        }
        Some(bytes)
    })
}

/// One in this many frames stays as it was built.
const UNHARMED: u8 = 3;
/// A frame suffers at most this many mutations.
const MUTATIONS: u8 = 3;

struct Source {
    random: Rng,
    peers: Peers,
    /// The frame before, for splices.
    last: Vec<u8>,
}

impl Source {
    fn frame(&mut self) -> Vec<u8> {
        let built = recipe::any(&mut self.random, &self.peers).build();
        let bytes = built.bytes.clone();
        let mutated = if self.random.u8(..UNHARMED) == 0 { built } else { self.mutated(built) };
        self.last = bytes;
        mutated.bytes
    }

    fn mutated(&mut self, mut frame: Frame) -> Frame {
        for _ in 0..self.random.u8(1..=MUTATIONS) {
            frame = mutate::once(&mut self.random, frame, &self.last);
        }
        frame
    }
}
