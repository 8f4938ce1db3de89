//! The daemon's view of itself: what it read and when, what it lost, what it costs in the kernel.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus::proto::MetricFamily;
use tracker_common::{ABI_HASH, counters::Loss};
use tracker_model::{Snapshot, api::Program};

use super::family::{Fill as _, Metric};

static BUILD: Metric = Metric::gauge(
    "tracker_build_info",
    &["version", "abi"],
    "Version of the daemon and of its kernel contract; always 1.",
);
static NAMESPACE: Metric = Metric::gauge(
    "tracker_network_namespace_info",
    &["netns"],
    "Inode number of the network namespace that is watched; always 1.",
);
static SOCKET_EVENTS: Metric = Metric::gauge(
    "tracker_socket_events_info",
    &["hook"],
    "How socket events are seen: tp_btf, raw_tp or none; always 1.",
);
static START: Metric =
    Metric::gauge("tracker_start_time_seconds", &[], "When the daemon began to count, seconds since 1970.");
static SNAPSHOT: Metric = Metric::gauge(
    "tracker_snapshot_timestamp_seconds",
    &[],
    "When the figures of this scrape were read from the kernel, seconds since 1970.",
);
static READ: Metric =
    Metric::gauge("tracker_read_duration_seconds", &[], "Time it took to read the figures from the kernel.");
static CENSUS_SUCCESS: Metric =
    Metric::gauge("tracker_census_success", &[], "1 when the last census succeeded, else 0.");
static CENSUS_TIME: Metric = Metric::gauge(
    "tracker_census_timestamp_seconds",
    &[],
    "When the last census that succeeded was taken, seconds since 1970.",
);
static CENSUS_DURATION: Metric = Metric::gauge("tracker_census_duration_seconds", &[], "Time that census took.");
static CENSUS_INTERVAL: Metric =
    Metric::gauge("tracker_census_interval_seconds", &[], "Time from that census to the next.");
static LOSSES: Metric = Metric::counter(
    "tracker_losses_total",
    &["kind"],
    "What could not be counted or kept; each that is not zero makes some figure a lower bound.",
);
static MAP_ENTRIES: Metric = Metric::gauge("tracker_map_entries", &["map"], "Entries of a kernel map in use.");
static MAP_CAPACITY: Metric = Metric::gauge("tracker_map_capacity", &["map"], "Most entries a kernel map can hold.");
static RUNS: Metric = Metric::counter(
    "tracker_program_runs_total",
    &["program"],
    "Runs of a kernel program; the kernel counts them only while kernel.bpf_stats_enabled is 1.",
);
static RUN_TIME: Metric = Metric::counter(
    "tracker_program_run_seconds_total",
    &["program"],
    "Time a kernel program ran; the kernel measures it only while kernel.bpf_stats_enabled is 1.",
);

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 15] = [
    &BUILD,
    &NAMESPACE,
    &SOCKET_EVENTS,
    &START,
    &SNAPSHOT,
    &READ,
    &CENSUS_SUCCESS,
    &CENSUS_TIME,
    &CENSUS_DURATION,
    &CENSUS_INTERVAL,
    &LOSSES,
    &MAP_ENTRIES,
    &MAP_CAPACITY,
    &RUNS,
    &RUN_TIME,
];

/// The one family that needs no snapshot.
pub(super) fn build_info() -> MetricFamily {
    let mut samples = BUILD.samples();
    samples.add(&[env!("CARGO_PKG_VERSION"), &format!("{ABI_HASH:016x}")], 1.0);
    samples.family()
}

/// The families of this file.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut families = vec![
        labelled(&NAMESPACE, &snapshot.netns.to_string()),
        labelled(&SOCKET_EVENTS, snapshot.socket_events_hook()),
        START.single(seconds(snapshot.started_at)),
        SNAPSHOT.single(seconds(snapshot.taken_at)),
        READ.single(snapshot.read_seconds),
        losses(snapshot),
    ];
    families.extend(census(snapshot));
    families.extend(maps(snapshot));
    families.extend(programs(snapshot));
    families
}

fn labelled(metric: &'static Metric, label: &str) -> MetricFamily {
    let mut samples = metric.samples();
    samples.add(&[label], 1.0);
    samples.family()
}

fn census(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let success = snapshot.census.is_some() && snapshot.census_error.is_none();
    let mut families = vec![CENSUS_SUCCESS.single(f64::from(u8::from(success)))];
    if let Some(census) = snapshot.census {
        families.push(CENSUS_TIME.single(seconds(census.taken_at)));
        families.push(CENSUS_DURATION.single(census.seconds));
        families.push(CENSUS_INTERVAL.single(census.interval_seconds));
    }
    families
}

fn losses(snapshot: &Snapshot) -> MetricFamily {
    let mut samples = LOSSES.samples();
    for loss in Loss::ALL {
        samples.count(&[loss.name()], snapshot.losses[loss as usize]);
    }
    samples.family()
}

fn maps(snapshot: &Snapshot) -> [MetricFamily; 2] {
    let [mut entries, mut capacity] = [MAP_ENTRIES.samples(), MAP_CAPACITY.samples()];
    for map in &snapshot.maps {
        entries.count(&[&map.name], map.entries);
        capacity.count(&[&map.name], map.capacity);
    }
    [entries.family(), capacity.family()]
}

fn programs(snapshot: &Snapshot) -> [MetricFamily; 2] {
    // A program may be loaded more than once.
    let mut by_name: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for Program { name, run_count, run_seconds, .. } in &snapshot.programs {
        let sum = by_name.entry(name).or_default();
        *sum = (sum.0 + run_count, sum.1 + run_seconds);
    }
    let [mut runs, mut time] = [RUNS.samples(), RUN_TIME.samples()];
    for (name, (run_count, run_seconds)) in by_name {
        runs.count(&[name], run_count);
        time.add(&[name], run_seconds);
    }
    [runs.family(), time.family()]
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::tests::value;

    #[test]
    fn times_are_seconds_since_1970() {
        let families = families(&tracker_fixtures::snapshot());
        let of = |name| value(&families, name, &[]);
        assert_eq!(of("tracker_snapshot_timestamp_seconds"), Some(1_800_000_000.0));
        assert_eq!(of("tracker_census_timestamp_seconds"), Some(1_799_999_999.0));
        assert_eq!(of("tracker_start_time_seconds"), Some(1_799_992_800.0));
        assert_eq!((of("tracker_census_duration_seconds"), of("tracker_census_success")), (Some(0.002), Some(1.0)));
    }

    #[test]
    fn a_census_that_failed_shows_and_keeps_the_time_of_the_last_one() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.census_error = Some("no".to_owned());
        let now = families(&snapshot);
        assert_eq!(value(&now, "tracker_census_success", &[]), Some(0.0));
        assert_eq!(value(&now, "tracker_census_timestamp_seconds", &[]), Some(1_799_999_999.0));
        snapshot.census = None;
        assert_eq!(value(&families(&snapshot), "tracker_census_timestamp_seconds", &[]), None);
    }

    #[test]
    fn losses_maps_and_programs_are_exported_by_name() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.losses[Loss::HandshakeUntimed as usize] = 7;
        snapshot.programs.push(snapshot.programs[0].clone());
        let families = families(&snapshot);
        assert_eq!(value(&families, "tracker_losses_total", &["handshake_untimed"]), Some(7.0));
        assert_eq!(value(&families, "tracker_losses_total", &["listener_table_full"]), Some(0.0));
        assert_eq!(value(&families, "tracker_map_capacity", &["LISTENERS"]), Some(1024.0));
        assert_eq!(value(&families, "tracker_program_runs_total", &["tracker_xdp"]), Some(2_000.0));
        assert_eq!(value(&families, "tracker_program_run_seconds_total", &["tracker_xdp"]), Some(0.001));
    }
}
