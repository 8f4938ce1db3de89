//! The daemon's view of itself: what it read and when, what it lost, what it costs in the kernel.

use jiff::Timestamp;
use tracker_common::{ABI_HASH, counters::Loss};
use tracker_model::Snapshot;

use super::family::{Metric, Row, rows};

/// The one metric that needs no snapshot.
pub(super) static BUILD: &[Row<()>] = rows! { ();
    gauge "tracker_build_info" ["version", "abi"] "Version of the daemon and of its kernel contract; always 1."
        => |(), samples| samples.add(&[&env!("CARGO_PKG_VERSION"), &format_args!("{ABI_HASH:016x}")], 1.0);
};

/// The metrics of this file, but for that.
pub(super) static METRICS: &[Row<Snapshot>] = rows! { Snapshot;
    gauge "tracker_network_namespace_info" ["netns"]
        "Inode number of the network namespace that is watched; always 1."
        => |snapshot, samples| samples.add(&[&snapshot.netns], 1.0);
    gauge "tracker_socket_events_info" ["hook"] "How socket events are seen: tp_btf, raw_tp or none; always 1."
        => |snapshot, samples| samples.add(&[&snapshot.socket_events_hook()], 1.0);
    gauge "tracker_start_time_seconds" [] "When the daemon began to count, seconds since 1970."
        => |snapshot, samples| samples.set(seconds(snapshot.started_at));
    gauge "tracker_snapshot_timestamp_seconds" []
        "When the figures of this scrape were read from the kernel, seconds since 1970."
        => |snapshot, samples| samples.set(seconds(snapshot.taken_at));
    gauge "tracker_read_duration_seconds" [] "Time it took to read the figures from the kernel."
        => |snapshot, samples| samples.set(snapshot.read_seconds);
    gauge "tracker_census_success" [] "1 when the last census succeeded, else 0."
        => |snapshot, samples| {
            let success = snapshot.census.is_some() && snapshot.census_error.is_none();
            samples.count(&[], success.into());
        };
    gauge "tracker_census_timestamp_seconds" []
        "When the last census that succeeded was taken, seconds since 1970."
        => |snapshot, samples| samples.set(snapshot.census.map(|census| seconds(census.taken_at)));
    gauge "tracker_census_duration_seconds" [] "Time that census took."
        => |snapshot, samples| samples.set(snapshot.census.map(|census| census.seconds));
    gauge "tracker_census_interval_seconds" [] "Time from that census to the next."
        => |snapshot, samples| samples.set(snapshot.census.map(|census| census.interval_seconds));
    counter "tracker_losses_total" ["kind"]
        "What could not be counted or kept; each that is not zero makes some figure a lower bound."
        => |snapshot, samples| for loss in Loss::ALL {
            samples.count(&[&loss.name()], snapshot.losses[loss as usize]);
        };
    gauge "tracker_map_entries" ["map"] "Entries of a kernel map in use."
        => |snapshot, samples| for map in &snapshot.maps {
            samples.count(&[&map.name], map.entries);
        };
    gauge "tracker_map_capacity" ["map"] "Most entries a kernel map can hold."
        => |snapshot, samples| for map in &snapshot.maps {
            samples.count(&[&map.name], map.capacity);
        };
    counter "tracker_program_runs_total" ["program"]
        "Runs of a kernel program; the kernel counts them only while kernel.bpf_stats_enabled is 1; absent before."
        => |snapshot, samples| for program in snapshot.programs.iter().filter(|program| program.run_count > 0) {
            samples.count(&[&program.name], program.run_count);
        };
    counter "tracker_program_run_seconds_total" ["program"]
        "Time a kernel program ran; the kernel measures it only while kernel.bpf_stats_enabled is 1; absent before."
        => |snapshot, samples| for program in snapshot.programs.iter().filter(|program| program.run_count > 0) {
            samples.add(&[&program.name], program.run_seconds);
        };
};

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}
