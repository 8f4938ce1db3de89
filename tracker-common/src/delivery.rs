//! Which SYNs reach TCP, and where.
//!
//! A packet program notes each SYN at two places: at one that its source address, its source port and what it was sent
//! to choose, and at one that its source alone chooses, together with what it was sent to. When TCP looks for a
//! listener, after netfilter, the first place tells that the SYN was delivered where it was sent to. If it has nothing
//! of the kind, the second tells whose SYN it is that was translated (DNAT, `REDIRECT`) or taken by a transparent proxy
//! (`TPROXY`), and delivered here. An ACK that carries a cookie and a stray segment are looked up too, and find that
//! their SYN, if any, is already counted.

#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers are cut to the bits that are wanted; a checked conversion could panic, which no kernel program \
     may"
)]

/// A listener by its slot, or a port without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(u32);

impl Target {
    /// Neither: no slot has this number.
    const NOWHERE: Self = Self(0xffff);
    /// Bits of a target.
    const BITS: u32 = 17;
    const MASK: u32 = (1 << Self::BITS) - 1;
    const PORT: u32 = 1 << 16;

    /// The listener of a slot.
    #[inline(always)]
    #[must_use]
    pub const fn listener(slot: u32) -> Self {
        Self(slot & 0xffff)
    }

    /// A port where nothing listens.
    #[inline(always)]
    #[must_use]
    pub const fn closed_port(port: u16) -> Self {
        Self(Self::PORT | port as u32)
    }

    /// The slot of the listener; none of a port without one.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> Option<u32> {
        if self.0 & Self::PORT == 0 { Some(self.0) } else { None }
    }

    /// The port without a listener; none of a listener.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        if self.0 & Self::PORT == 0 { None } else { Some(self.0 as u16) }
    }

    /// As a number, one more than 0, as it stands in [`crate::maps::DIVERTED_FROM`].
    #[inline(always)]
    #[must_use]
    pub const fn to_number(self) -> u32 {
        self.0 + 1
    }

    /// The target of a number; none of 0.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number.checked_sub(1) {
            Some(target) => Some(Self(target)),
            None => None,
        }
    }
}

/// A SYN on its way to TCP. Entry of [`crate::maps::SYN_ORIGINS`], by [`index`]: from the lowest bit on, where TCP
/// looked for a listener, where the SYN was sent to, and a part of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynOrigin(u64);

impl SynOrigin {
    const TAG: u64 = u64::MAX << (2 * Target::BITS);

    /// Of a SYN with this [`hash`] that was just received.
    #[inline(always)]
    #[must_use]
    pub const fn received(hash: u64, target: Target) -> Self {
        Self(Self::tag(hash) | (target.0 as u64) << Target::BITS | Target::NOWHERE.0 as u64)
    }

    /// What stands in the map.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it stands in the map.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether it is of a SYN with this [`hash`].
    #[inline(always)]
    #[must_use]
    pub const fn is_of(self, hash: u64) -> bool {
        self.0 & Self::TAG == Self::tag(hash)
    }

    /// Where it was sent to.
    #[inline(always)]
    #[must_use]
    pub const fn target(self) -> Target {
        Target((self.0 >> Target::BITS) as u32 & Target::MASK)
    }

    /// Where TCP last looked for a listener; none: it has not.
    #[inline(always)]
    #[must_use]
    pub const fn delivered(self) -> Option<Target> {
        let target = self.0 as u32 & Target::MASK;
        if target == Target::NOWHERE.0 { None } else { Some(Target(target)) }
    }

    /// The same, delivered to `target`.
    #[inline(always)]
    #[must_use]
    pub const fn delivered_to(self, target: Target) -> Self {
        Self(self.0 & !(Target::MASK as u64) | target.0 as u64)
    }

    /// The upper bits of the hash, the highest set, so that an entry that was never written is of no SYN.
    #[inline(always)]
    const fn tag(hash: u64) -> u64 {
        (hash | 1 << 63) & Self::TAG
    }
}

/// Entry of a SYN with this [`hash`].
#[inline(always)]
#[must_use]
pub const fn index(hash: u64) -> u32 {
    hash as u32 & (crate::limits::SYN_ORIGINS - 1)
}

/// The same of a SYN together with what it was sent to.
#[inline(always)]
#[must_use]
pub const fn hash_to(hash: u64, target: Target) -> u64 {
    let x = (hash ^ target.0 as u64).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 32)
}

/// Hash of a SYN by the [`crate::hash::source`] of its source address, and its source port. The former has the key, so
/// one multiplication is enough here.
#[inline(always)]
#[must_use]
pub const fn hash(source: u64, port: u16) -> u64 {
    let x = source ^ (port as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}
