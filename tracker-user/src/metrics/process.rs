//! The daemon as a process, under the names that all Prometheus clients use. The collector of the `prometheus` crate
//! rounds CPU time to whole seconds, too coarse for a daemon that should cost less than 1 % of one CPU.

use procfs::{
    WithCurrentSystemInfo as _,
    process::{LimitValue, Process, Stat},
};
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

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
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
    /// When the host was booted; it is asked once, for it moves with each step of the clock.
    boot_seconds: Option<u64>,
}

impl ProcessCollector {
    pub(super) fn new() -> prometheus::Result<Self> {
        let descs = family::descs(METRICS.iter().map(|row| &row.metric))?;
        Ok(Self { descs, boot_seconds: procfs::boot_time_secs().ok() })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(process) = Process::myself() else { return Vec::new() };
        let reading = Reading { stat: process.stat().ok(), process, boot_seconds: self.boot_seconds };
        family::families(METRICS, &reading).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::tests::value;

    #[test]
    fn this_process_has_memory_threads_and_files_and_its_cpu_time_grows() {
        let now = |name| value(&ProcessCollector::new().unwrap().collect(), name, &[]).unwrap();
        assert!((1e6..1e10).contains(&now("process_resident_memory_bytes")));
        assert!(now("process_threads") >= 1.0 && now("process_open_fds") >= 3.0);
        let wall = jiff::Timestamp::now().as_duration().as_secs_f64();
        assert!((wall - now("process_start_time_seconds")).abs() < 3_600.0);
        let (before, begun) = (now("process_cpu_seconds_total"), std::time::Instant::now());
        while now("process_cpu_seconds_total") <= before {
            assert!(begun.elapsed().as_secs() < 10, "still {before} s");
        }
    }
}
