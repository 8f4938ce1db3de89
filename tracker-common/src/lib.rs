//! The contract between tracker's kernel programs and its daemon: layouts of map values, names of maps, programs and
//! fields of the kernel, limits, and the classification of a packet, which is pure so that it is tested on the host.
//! What only one side needs does not belong here.
#![no_std]

#[cfg(test)]
extern crate std;

/// Declares an enum of numbers with names, and what all tables here need of it: how many variants there are, all of
/// them in the order of their numbers, and the name of each in metrics and JSON.
macro_rules! named {
    ($(#[$about:meta])* pub enum $name:ident { $($variants:tt)* }) => {
        $(#[$about])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(strum::EnumCount, strum::VariantArray, strum::VariantNames)]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($variants)* }

        impl $name {
            /// How many there are.
            pub const COUNT: usize = <Self as strum::EnumCount>::COUNT;
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; Self::COUNT] = *<Self as strum::VariantArray>::VARIANTS.first_chunk().unwrap();

            /// The name in metrics and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                <Self as strum::VariantNames>::VARIANTS[self as usize - Self::ALL[0] as usize]
            }
        }
    };
}

pub mod classify;
pub mod counters;
pub mod delivery;
mod fast_path;
pub mod fields;
pub mod flows;
mod frame;
pub mod hash;
pub mod histogram;
pub mod layout;
pub mod lifetimes;
pub mod limits;
pub mod listener;
pub mod maps;
mod outcome;
pub mod own_ranges;
pub mod ports;
pub mod programs;
pub mod socket;
pub mod sources;
pub mod state;
pub mod watch;

pub use maps::ABI_HASH;

/// Names of maps, programs and fields.
pub mod names {
    pub use crate::{fields::*, maps::*, programs::*};
}

/// Names of the socket families in metrics and JSON, by index.
pub const SOCKET_FAMILY_NAMES: [&str; counters::SOCKET_FAMILIES] = ["ipv4", "ipv6"];
