//! How the ports of a network namespace stand after a census: what the detectors are shown.

use std::collections::BTreeMap;

use super::{failed_calls::CallCount, subject::Target};
use crate::alert::ObservedAt;
use tracker_model::api::{
    BindPoolUse, PortConflict, PortEvidence, PortFailure, PortPool, PortRange, PortSpace, PortUse,
};

/// The state of one network namespace.
#[derive(Clone, Debug)]
pub struct PortsReading {
    pub(crate) now: ObservedAt,
    /// Whether the daemon looked here for the first time, just after its start: what it saw was there before.
    pub(crate) first: bool,
    pub(crate) space: PortSpace,
    /// Ports that a `connect()` to a destination without connections can choose.
    pub(crate) free_for_all: u32,
    /// The same of the ranges that sockets whose `connect()` failed have set for themselves.
    pub(crate) free_in: BTreeMap<PortRange, u32>,
    /// The worst first.
    pub(crate) rows: Vec<PortUse>,
    pub(crate) pools: Vec<BindPoolUse>,
    pub(crate) failures: Vec<PortFailure>,
    pub(crate) conflicts: Vec<PortConflict>,
    pub(crate) calls: BTreeMap<Target, CallCount>,
}

impl PortsReading {
    /// What is known of a tuple that the census did not list.
    pub(crate) fn unlisted(&self) -> PortEvidence {
        let PortSpace { range, reserved, bound, tw_reuse, .. } = self.space;
        PortEvidence { capacity: self.free_for_all, range, reserved, bound, tw_reuse, ..PortEvidence::default() }
    }

    /// The same of sockets that have set a range for themselves.
    pub(crate) fn unlisted_in(&self, range: Option<PortRange>) -> PortEvidence {
        let capacity = range.and_then(|range| self.free_in.get(&range)).copied().unwrap_or(self.free_for_all);
        PortEvidence { capacity, local_port_range: range, ..self.unlisted() }
    }

    /// The figures of a tuple.
    pub(crate) fn listed(&self, row: &PortUse) -> PortEvidence {
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
            local_port_range: row.local_port_range,
            ..self.unlisted()
        }
    }

    /// The figures of a pool of `bind()`.
    pub(crate) fn of_pool(&self, pool: &BindPoolUse) -> PortEvidence {
        PortEvidence {
            pool: PortPool::Bind,
            in_use: Some(pool.in_use),
            capacity: pool.capacity,
            used_ratio: Some(pool.used_ratio),
            peak_used_ratio: Some(pool.used_ratio),
            growth_per_second: pool.growth_per_second,
            full_in_seconds: pool.full_in_seconds,
            ..self.unlisted()
        }
    }

    /// The figures of UDP. Ports that TCP sockets have bound are not in its way.
    pub(crate) fn of_udp(&self) -> PortEvidence {
        let udp = &self.space.udp;
        PortEvidence {
            pool: PortPool::Udp,
            in_use: Some(udp.in_use),
            ipv4_in_use: Some(udp.ipv4_in_use),
            capacity: udp.capacity,
            used_ratio: Some(udp.used_ratio),
            peak_used_ratio: Some(udp.used_ratio),
            growth_per_second: udp.growth_per_second,
            full_in_seconds: udp.full_in_seconds,
            processes: udp.processes.clone(),
            bound: 0,
            ..self.unlisted()
        }
    }
}
