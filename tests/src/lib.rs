//! The lab: real namespaces, real peers, real traffic, and the tracker between them; the benchmarks and the generator
//! of docs/. Every part is a value that undoes itself when it is dropped, also while a panic unwinds.
//!
//! Here belongs what several cases need, or a program in `bin/`. The cases are in `tests/`; snapshots made by hand, for
//! tests without root, in `fixtures/`.

pub mod api;
pub mod bench;
pub mod bind_cases;
pub mod bpf;
pub mod client;
pub mod command;
pub mod counters;
pub mod daemon;
pub mod detection;
pub mod docs;
pub mod flood;
pub mod frames;
pub mod golden;
pub mod http;
pub mod link;
pub mod load_clients;
pub mod metrics;
pub mod namespace;
pub mod nginx;
pub mod packet_socket;
pub mod pair;
pub mod peer;
pub mod process;
pub mod prog_test_run;
pub mod prometheus;
pub mod segment;
pub mod serial;
pub mod server;
pub mod sink;
pub mod sk_lookup;
pub mod ss;
pub mod wire;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}
