//! A small world of clients, floods and listeners that makes series of observations as a host would.
//!
//! Here belongs what a host does. What the detector must say of it belongs to the tests.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a simulation rounds"
)]
#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod observer;
mod traffic;
mod world;

pub use observer::{Run, seconds};
pub use traffic::{From, To, Traffic};
pub use world::{Server, World};

/// `SplitMix64`: the same series for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
