//! What an alert about ports is about, and the figures it rests on.

use std::{collections::HashMap, net::IpAddr};

use crate::ports::{
    capacity::Room,
    observation::{ConflictSeen, PortsSeen},
};
use tracker_model::{
    api::{AlertSubject, BindPoolUse, PortEvidence, PortPool, PortRange, PortUse},
    explain::Protocol,
    process::Process,
};

/// What an alert about ports is about, in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// Connections from an address, where it is known, to an address and port.
    Tuple(Option<IpAddr>, IpAddr, u16),
    /// Ports that `bind()` chooses for an address.
    Pool(IpAddr),
    /// An address and port that `bind()` was called for, and the protocol, if it is one of these.
    Bind(Option<Protocol>, IpAddr, u16),
}

impl Target {
    /// Of a row.
    pub(super) const fn of(row: &PortUse) -> Self {
        Self::Tuple(Some(row.source), row.destination, row.destination_port)
    }

    /// Of a refused call.
    pub(super) fn of_bind(conflict: &ConflictSeen) -> Self {
        let protocol = match conflict.protocol.as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        Self::Bind(protocol, conflict.address, conflict.port)
    }

    /// The same for the API.
    pub(super) fn subject(self, netns: u32, process: Option<Process>) -> AlertSubject {
        let subject = AlertSubject { netns, process, ..AlertSubject::default() };
        match self {
            Self::Tuple(source, destination, port) => {
                AlertSubject { source, destination: Some(destination), destination_port: Some(port), ..subject }
            }
            Self::Pool(source) => AlertSubject { source: Some(source), ..subject },
            Self::Bind(protocol, address, port) => {
                AlertSubject { address: Some(address), port: Some(port), protocol, ..subject }
            }
        }
    }
}

/// Where the rows of targets are. Where the source of a target is not known, its row is the worst of that destination.
pub(super) struct Index(HashMap<Target, usize>);

impl Index {
    /// Of rows of which the worst are first.
    pub(super) fn new(rows: &[PortUse]) -> Self {
        let mut places = HashMap::with_capacity(2 * rows.len());
        for (place, row) in rows.iter().enumerate() {
            places.entry(Target::of(row)).or_insert(place);
            places.entry(Target::Tuple(None, row.destination, row.destination_port)).or_insert(place);
        }
        Self(places)
    }

    /// The place of a target's row.
    pub(super) fn of(&self, target: Target) -> Option<usize> {
        self.0.get(&target).copied()
    }
}

/// What is known of a tuple that no census listed.
pub(super) fn unlisted(seen: &PortsSeen, room: &Room) -> PortEvidence {
    PortEvidence {
        capacity: room.free_for_all,
        range: PortRange { low: seen.settings.low, high: seen.settings.high },
        reserved: room.reserved,
        bound: room.bound,
        tw_reuse: seen.settings.tw_reuse.number(),
        ..PortEvidence::default()
    }
}

/// The figures of a tuple.
pub(super) fn listed(row: &PortUse, seen: &PortsSeen, room: &Room) -> PortEvidence {
    PortEvidence {
        in_use: Some(row.in_use),
        states: row.states.clone(),
        time_wait: Some(row.time_wait),
        reusable: Some(row.reusable),
        recyclable: Some(row.recyclable),
        capacity: row.capacity,
        used_ratio: Some(row.used_ratio),
        peak_used_ratio: Some(row.used_ratio),
        growth_per_second: row.growth_per_second,
        full_in_seconds: row.full_in_seconds,
        processes: row.processes.clone(),
        made_by: row.made_by.clone(),
        ..unlisted(seen, room)
    }
}

/// The figures of a pool of `bind()`.
pub(super) fn of_pool(pool: &BindPoolUse, seen: &PortsSeen, room: &Room) -> PortEvidence {
    PortEvidence {
        pool: PortPool::Bind,
        in_use: Some(pool.in_use),
        capacity: pool.capacity,
        used_ratio: Some(pool.used_ratio),
        peak_used_ratio: Some(pool.used_ratio),
        ..unlisted(seen, room)
    }
}

/// The process that a tuple's ports belong to for the most part.
pub(super) fn foremost(evidence: &PortEvidence) -> Option<Process> {
    let holder = evidence.processes.first().or(evidence.made_by.first())?;
    Some(Process { pid: holder.pid, comm: holder.comm.clone() })
}
