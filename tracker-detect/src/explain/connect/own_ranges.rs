//! Ranges that the connections asked about have set for themselves (`IP_LOCAL_PORT_RANGE`).

use std::collections::BTreeMap;

use super::port_table::{PortTable, Tuple};
use crate::ports::PortSettings;
use tracker_model::{
    api::PortRange,
    explain::{Protocol, SocketObservation},
    text::{counted, grouped},
};

/// How many open connections have set which range; none stands for that of the namespace.
pub(super) struct OwnRanges(BTreeMap<Option<PortRange>, u64>);

impl OwnRanges {
    /// Those of a tuple. A minisocket does not have its range any more.
    pub(super) fn of(tuple: Tuple, sockets: &[SocketObservation], settings: &PortSettings) -> Self {
        let is_open = |socket: &&SocketObservation| {
            socket.protocol == Protocol::Tcp
                && tuple.has(socket)
                && !socket.is_minisocket()
                && settings.may_choose(socket.port)
        };
        let mut ranges = BTreeMap::new();
        for socket in sockets.iter().filter(is_open) {
            *ranges.entry(settings.own_range(socket.range)).or_default() += 1;
        }
        Self(ranges)
    }

    /// The range that all of them have set.
    pub(super) fn of_all(&self) -> Option<PortRange> {
        let mut ranges = self.0.keys();
        let first = *ranges.next()?;
        if ranges.next().is_some() { None } else { first }
    }

    /// What is left to sockets with each range that the answer is not for.
    pub(super) fn notes(&self, tuple: Tuple, sockets: &[SocketObservation], settings: &PortSettings) -> Vec<String> {
        let left = |range: Option<PortRange>| {
            let counts = PortTable::new(tuple, sockets, settings, range).counts();
            let [free, capacity] = [counts.free, counts.capacity].map(|ports| grouped(ports.into()));
            format!("{free} of {capacity} ports are free")
        };
        if let Some(own) = self.of_all() {
            let all: u64 = self.0.values().sum();
            let connections = counted(all, "open connection");
            return vec![format!(
                "This is for a socket that sets IP_LOCAL_PORT_RANGE to {own}, as all that are there have \
                 ({connections}); without it {}.",
                left(None)
            )];
        }
        let own = self.0.iter().filter_map(|(range, count)| Some(((*range)?, *count)));
        let note = |(range, count): (PortRange, u64)| {
            let have = if count == 1 { "has" } else { "have" };
            format!(
                "{} {have} set IP_LOCAL_PORT_RANGE to {range}: there {}.",
                counted(count, "connection"),
                left(Some(range))
            )
        };
        own.map(note).collect()
    }
}
