//! The daemon as a process, under the names that all Prometheus clients use. The collector of the `prometheus` crate
//! rounds CPU time to whole seconds, too coarse for a daemon that should cost less than 1 % of one CPU.

use procfs::{
    WithCurrentSystemInfo as _,
    process::{LimitValue, Process, Stat},
};
use prometheus::proto::MetricFamily;

use super::family::{self, Metric, Row, float, rows};

/// What a scrape reads. What cannot be read is left out.
pub(super) struct Reading {
    process: Process,
    stat: Option<Stat>,
    boot_seconds: Option<u64>,
}

impl Reading {
    /// A figure of `/proc/self/stat`.
    fn stat(&self, figure: impl FnOnce(&Stat) -> u64) -> Option<f64> {
        self.stat.as_ref().map(|stat| float(figure(stat)))
    }
}

fn ticks() -> f64 {
    float(procfs::ticks_per_second())
}

/// The metrics of this file.
pub(super) static METRICS: &[Row<Reading>] = rows! { Reading;
    counter "process_cpu_seconds_total" [] "User and system CPU time of the daemon, without kernel programs."
        => |of, samples| samples.set(of.stat(|stat| stat.utime + stat.stime).map(|used| used / ticks()));
    gauge "process_resident_memory_bytes" [] "Resident memory of the daemon, without kernel maps."
        => |of, samples| samples.set(of.stat(|stat| stat.rss_bytes().get()));
    gauge "process_virtual_memory_bytes" [] "Virtual memory of the daemon."
        => |of, samples| samples.set(of.stat(|stat| stat.vsize));
    gauge "process_start_time_seconds" [] "When the daemon was started, seconds since 1970."
        => |of, samples| {
            let started = of.stat(|stat| stat.starttime).zip(of.boot_seconds);
            samples.set(started.map(|(since_boot, boot)| float(boot) + since_boot / ticks()));
        };
    gauge "process_threads" [] "Threads of the daemon."
        => |of, samples| samples.set(of.stat(|stat| stat.num_threads.try_into().unwrap_or_default()));
    gauge "process_open_fds" [] "Open file descriptors of the daemon."
        => |of, samples| samples.set(of.process.fd_count().ok().map(|count| float(count as u64)));
    gauge "process_max_fds" [] "Most file descriptors the daemon may open."
        => |of, samples| {
            let limit = of.process.limits().map(|limits| limits.max_open_files.soft_limit);
            if let Ok(LimitValue::Value(limit)) = limit {
                samples.set(float(limit));
            }
        };
};

/// Reads `/proc/self` at each scrape.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    /// When the host was booted; it is asked once, for it moves with each step of the clock.
    boot_seconds: Option<u64>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { boot_seconds: procfs::boot_time_secs().ok() }
    }

    /// The families of this file.
    pub(super) fn families(self) -> Vec<MetricFamily> {
        let Ok(process) = Process::myself() else { return Vec::new() };
        let reading = Reading { stat: process.stat().ok(), process, boot_seconds: self.boot_seconds };
        family::families(METRICS, &reading).collect()
    }
}
