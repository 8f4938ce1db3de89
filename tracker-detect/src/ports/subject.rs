//! What an alert about ports is about.

use std::{collections::HashMap, net::IpAddr};

use tracker_model::{
    api::{AlertSubject, PortConflict, PortFailure, PortRange, PortUse},
    explain::Protocol,
    process::Process,
};

/// What an alert about ports is about, in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// Connections from an address, where it is known, to an address and port; those that have set a range of ports for
    /// themselves apart.
    Tuple(Option<IpAddr>, IpAddr, u16, Option<PortRange>),
    /// Ports that `bind()` chooses for an address.
    Pool(IpAddr),
    /// Ports that the kernel chooses for UDP sockets.
    Udp,
    /// An address and port that `bind()` was called for, and the protocol, if it is one of these.
    Bind(Option<Protocol>, IpAddr, u16),
}

impl Target {
    pub(crate) const fn of_row(row: &PortUse) -> Self {
        Self::Tuple(Some(row.source), row.destination, row.destination_port, row.local_port_range)
    }

    pub(super) const fn of_connect(failure: &PortFailure) -> Self {
        Self::Tuple(failure.source, failure.destination, failure.destination_port, failure.local_port_range)
    }

    pub(crate) fn of_bind(conflict: &PortConflict) -> Self {
        let protocol = match conflict.protocol.as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        Self::Bind(protocol, conflict.address, conflict.port)
    }

    /// The subject as the API shows it.
    pub(crate) fn subject(self, netns: u32, process: Option<Process>) -> AlertSubject {
        let subject = AlertSubject { netns, process, ..AlertSubject::default() };
        match self {
            Self::Tuple(source, destination, port, local_port_range) => AlertSubject {
                source,
                destination: Some(destination),
                destination_port: Some(port),
                local_port_range,
                ..subject
            },
            Self::Pool(source) => AlertSubject { source: Some(source), ..subject },
            Self::Udp => AlertSubject { protocol: Some(Protocol::Udp), ..subject },
            Self::Bind(protocol, address, port) => {
                AlertSubject { address: Some(address), port: Some(port), protocol, ..subject }
            }
        }
    }
}

/// Where the rows of targets are. Where the source of a target is not known, its row is the worst of that destination.
pub(crate) struct Index(HashMap<Target, usize>);

impl Index {
    /// Of rows of which the worst are first.
    pub(crate) fn new(rows: &[PortUse]) -> Self {
        let mut places = HashMap::with_capacity(2 * rows.len());
        for (place, row) in rows.iter().enumerate() {
            places.entry(Target::of_row(row)).or_insert(place);
            let anywhere = Target::Tuple(None, row.destination, row.destination_port, row.local_port_range);
            places.entry(anywhere).or_insert(place);
        }
        Self(places)
    }

    /// The place of a target's row.
    pub(crate) fn find(&self, target: Target) -> Option<usize> {
        self.0.get(&target).copied()
    }
}
