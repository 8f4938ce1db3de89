//! The rows of the answer: how the ports of a tuple stand.

use tracker_common::state;

use super::{
    capacity::{PortCapacity, may_reuse, ratio},
    observation::{PortsObservation, RangeObservation, TupleObservation},
    subject::{Index, Target},
};
use tracker_model::api::PortUse;

/// The rows of a tuple, and how many of their ports entered `TIME_WAIT` in the last seconds: one for each range that
/// its sockets have set for themselves, and one for that of the namespace unless all sockets have set one.
pub(super) fn of_tuple(
    tuple: &TupleObservation,
    available: &PortCapacity,
    seen: &PortsObservation,
) -> Vec<(PortUse, u16)> {
    let in_range = |own: &RangeObservation| {
        let free = PortCapacity::free_in(own.range, &seen.settings, &seen.bound);
        let row = PortUse {
            local_port_range: Some(own.range),
            range_sockets: own.sockets.into(),
            ..row(&own.within, free, seen)
        };
        (row, own.within.recent)
    };
    let mut rows: Vec<_> = tuple.ranges.iter().map(in_range).filter(|(row, _)| row.in_use > 0).collect();
    if rows.is_empty() || !tuple.all_ranged {
        rows.push((row(tuple, available.free_for_all, seen), tuple.recent));
    }
    rows
}

/// How many ports a tuple uses of those it could, `free` of which it would have if nobody held any; how they grow is
/// not known yet.
///
/// Ports of its own sockets that are bound count as used, and so also as part of the capacity; those that others bound
/// are not there for it. What is used is there: should it be more than the rules allow for (the range was narrowed, two
/// sockets on two interfaces share a port), the capacity is what is used.
fn row(tuple: &TupleObservation, free: u32, seen: &PortsObservation) -> PortUse {
    let in_use = tuple.states.iter().copied().map(u32::from).sum();
    let time_wait = u32::from(tuple.states[usize::from(state::TIME_WAIT)]);
    let recyclable = u32::from(tuple.recyclable).min(time_wait);
    let reusable = if may_reuse(seen.settings.tw_reuse, tuple.source, tuple.destination) { recyclable } else { 0 };
    let capacity = (free + u32::from(tuple.bound)).max(in_use - reusable);
    let states = state::NAMES.iter().zip(tuple.states).filter(|(_, count)| *count > 0);
    PortUse {
        netns: seen.netns,
        source: tuple.source,
        destination: tuple.destination,
        destination_port: tuple.destination_port,
        local_port_range: None,
        range_sockets: 0,
        in_use,
        time_wait,
        reusable,
        recyclable,
        bound: u32::from(tuple.bound).min(in_use),
        capacity,
        used_ratio: ratio(in_use - reusable, capacity),
        growth_per_second: None,
        full_in_seconds: None,
        next_free_seconds: tuple.next_free.map(|next| next.as_secs_f64()),
        failures: 0,
        states: states.map(|(name, count)| ((*name).to_owned(), count.into())).collect(),
        processes: tuple.processes.clone(),
        made_by: tuple.made_by.clone(),
    }
}

/// Adds the failed calls to their rows. Where the source is not known, they are the worst row's.
pub(super) fn add_failures(rows: &mut [PortUse], seen: &PortsObservation) {
    if seen.failures.is_empty() {
        return;
    }
    let index = Index::new(rows);
    for failure in seen.failures.iter().filter(|failure| failure.source_port.is_none()) {
        if let Some(index) = index.find(Target::of_connect(failure)) {
            rows[index].failures += failure.count;
        }
    }
}
