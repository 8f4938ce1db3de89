//! Frames with the outcome that each must have, written by hand from RFC 791, RFC 8200, RFC 9293 and IEEE 802.1Q.
//!
//! Nothing here asks the classifier. Cases of well-formed packets have correct checksums and the peers' addresses, so
//! that they can be sent to a listener as well.
#![forbid(unsafe_code)]

mod extensions;
mod flags;
mod ipv4;
mod ipv6;
mod link;
mod transport;

use tracker_common::classify::{Family, Outcome};

use super::build::{Peers, Recipe};

/// One frame and what it is.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique, in `snake_case`.
    pub name: String,
    /// The bytes, from the Ethernet header on. Some are shorter than [`super::SHORTEST_IN_KERNEL`].
    pub frame: Vec<u8>,
    /// The outcome it must have.
    pub outcome: Outcome,
    /// The network protocol it must have.
    pub family: Family,
}

/// All cases, between `peers`.
#[must_use]
pub fn cases(peers: &Peers) -> Vec<Case> {
    let mut table = Table { peers: *peers, cases: Vec::new() };
    link::fill(&mut table);
    ipv4::fill(&mut table);
    ipv6::fill(&mut table);
    extensions::fill(&mut table);
    transport::fill(&mut table);
    flags::fill(&mut table);
    table.cases
}

/// The table while it is filled.
struct Table {
    peers: Peers,
    cases: Vec<Case>,
}

impl Table {
    fn ipv4(&self) -> Recipe {
        Recipe::ipv4(&self.peers)
    }

    fn ipv6(&self) -> Recipe {
        Recipe::ipv6(&self.peers)
    }

    fn add(&mut self, family: Family, name: impl Into<String>, frame: impl Into<Vec<u8>>, outcome: Outcome) {
        self.cases.push(Case { name: name.into(), frame: frame.into(), outcome, family });
    }

    /// A frame with IPv4's `EtherType`.
    fn v4(&mut self, name: impl Into<String>, frame: impl Into<Vec<u8>>, outcome: Outcome) {
        self.add(Family::Ipv4, name, frame, outcome);
    }

    /// A frame with IPv6's `EtherType`.
    fn v6(&mut self, name: impl Into<String>, frame: impl Into<Vec<u8>>, outcome: Outcome) {
        self.add(Family::Ipv6, name, frame, outcome);
    }

    /// A frame with neither, or cut before it.
    fn none(&mut self, name: impl Into<String>, frame: impl Into<Vec<u8>>, outcome: Outcome) {
        self.add(Family::None, name, frame, outcome);
    }
}
