//! The daemon as a process, under the names that all Prometheus clients use. The collector of the `prometheus` crate
//! rounds CPU time to whole seconds, too coarse for a daemon that should cost less than 1 % of one CPU.

use procfs::{
    ProcResult, WithCurrentSystemInfo as _,
    process::{Process, Stat},
};
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::family::{self, Fill as _, Metric, float};

static CPU: Metric = Metric::counter(
    "process_cpu_seconds_total",
    &[],
    "User and system CPU time of the daemon, without kernel programs.",
);
static RESIDENT: Metric =
    Metric::gauge("process_resident_memory_bytes", &[], "Resident memory of the daemon, without kernel maps.");
static VIRTUAL: Metric = Metric::gauge("process_virtual_memory_bytes", &[], "Virtual memory of the daemon.");
static START: Metric =
    Metric::gauge("process_start_time_seconds", &[], "When the daemon was started, seconds since 1970.");
static THREADS: Metric = Metric::gauge("process_threads", &[], "Threads of the daemon.");
static OPEN_FDS: Metric = Metric::gauge("process_open_fds", &[], "Open file descriptors of the daemon.");
static MAX_FDS: Metric = Metric::gauge("process_max_fds", &[], "Most file descriptors the daemon may open.");

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 7] = [&CPU, &RESIDENT, &VIRTUAL, &START, &THREADS, &OPEN_FDS, &MAX_FDS];

/// Reads `/proc/self` at each scrape.
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
    /// When the host was booted; it is asked once, for it moves with each step of the clock.
    boot_seconds: Option<u64>,
}

impl ProcessCollector {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self { descs: family::descs(METRICS.into_iter())?, boot_seconds: procfs::boot_time_secs().ok() })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    /// What cannot be read is left out.
    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(process) = Process::myself() else { return Vec::new() };
        let mut families = Vec::with_capacity(METRICS.len());
        if let Ok(stat) = process.stat() {
            families.extend(of_stat(&stat, self.boot_seconds));
        }
        families.extend(of_files(&process).unwrap_or_default());
        families
    }
}

fn of_stat(stat: &Stat, boot_seconds: Option<u64>) -> Vec<MetricFamily> {
    let ticks = float(procfs::ticks_per_second());
    let mut families = vec![
        CPU.single(float(stat.utime + stat.stime) / ticks),
        RESIDENT.single(float(stat.rss_bytes().get())),
        VIRTUAL.single(float(stat.vsize)),
        THREADS.single(float(stat.num_threads.try_into().unwrap_or_default())),
    ];
    families.extend(boot_seconds.map(|boot| START.single(float(boot) + float(stat.starttime) / ticks)));
    families
}

fn of_files(process: &Process) -> ProcResult<Vec<MetricFamily>> {
    let mut families = vec![OPEN_FDS.single(float(process.fd_count()? as u64))];
    if let procfs::process::LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
        families.push(MAX_FDS.single(float(limit)));
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::metrics::family::tests::value;

    #[test]
    fn the_time_of_the_cpu_goes_on() {
        let cpu = || value(&ProcessCollector::new().unwrap().collect(), "process_cpu_seconds_total", &[]).unwrap();
        let (before, begun) = (cpu(), Instant::now());
        while cpu() <= before {
            assert!(begun.elapsed() < Duration::from_secs(10), "still {before} s");
        }
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let families = ProcessCollector::new().unwrap().collect();
        let of = |name| value(&families, name, &[]).unwrap();
        assert!((1e6..1e10).contains(&of("process_resident_memory_bytes")));
        assert!(of("process_threads") >= 1.0 && of("process_open_fds") >= 3.0);
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        assert!((now - of("process_start_time_seconds")).abs() < 3_600.0);
    }
}
