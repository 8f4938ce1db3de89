//! Metrics: the last snapshot in the text format of Prometheus. A scrape reads nothing from the kernel, so it costs the
//! same at any number of sockets. Figures that the commands show too are described in tracker-model.

mod family;
mod floods;
mod host;
mod listeners;
mod packets;
mod ports;
mod process;
mod series;
mod sockets;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{TextEncoder, proto::MetricFamily};
use tracker_common::counters::SynTarget;
use tracker_model::{
    Snapshot,
    field::{Field, Metric},
    listener::Listener,
    listener_fields,
    port_fields::{NAMESPACE, POOL, TUPLE},
};

use self::{
    family::{Row, families},
    series::{FailureSeries, ListenerSeries, PortSeries, TupleSeries},
};
use crate::kernel::KernelHandle;

/// Every metric of the daemon, by the subject it is of; that is also the name of the table in docs/metrics.md.
#[must_use]
pub fn all() -> [(&'static str, Vec<&'static Metric>); 7] {
    [
        ("packets", metrics_of(packets::METRICS).chain(metrics_of(packets::NO_LISTENER)).collect()),
        ("listeners", metrics_of(listeners::METRICS).chain(metrics_in(listener_fields::FIELDS)).collect()),
        ("floods", metrics_of(floods::METRICS).collect()),
        ("sockets", metrics_of(sockets::METRICS).collect()),
        (
            "ports",
            metrics_in(TUPLE)
                .chain(metrics_of(ports::METRICS))
                .chain(metrics_in(NAMESPACE))
                .chain(metrics_in(POOL))
                .collect(),
        ),
        ("host", metrics_of(host::BUILD).chain(metrics_of(host::METRICS)).collect()),
        ("process", metrics_of(process::METRICS).collect()),
    ]
}

fn metrics_of<T>(rows: &'static [Row<T>]) -> impl Iterator<Item = &'static Metric> {
    rows.iter().map(|row| &row.metric)
}

fn metrics_in<T>(fields: &'static [Field<T>]) -> impl Iterator<Item = &'static Metric> {
    fields.iter().filter_map(|field| field.metric.as_ref())
}

/// What was scraped last, and its text.
type Rendered = (Scrape, Arc<str>);

/// All metrics. Clones share the text of the last snapshot: a scrape costs a copy of it until there is a new one.
#[derive(Clone)]
pub struct Metrics {
    kernel: KernelHandle,
    process: process::Reader,
    last: Arc<Mutex<Option<Rendered>>>,
}

impl Metrics {
    /// Nothing was scraped yet.
    #[must_use]
    pub fn new(kernel: KernelHandle) -> Self {
        Self { kernel, process: process::Reader::new(), last: Arc::default() }
    }

    /// All metrics in the text format. Those of the process are of this moment.
    pub fn encode(&self) -> prometheus::Result<String> {
        Ok(text(self.process.families())? + &*self.snapshot_text()?)
    }

    fn snapshot_text(&self) -> prometheus::Result<Arc<str>> {
        let Some(newest) = self.kernel.snapshot() else { return Ok(text(families(host::BUILD, &()))?.into()) };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = last.as_ref().filter(|(scrape, _)| Arc::ptr_eq(&scrape.snapshot, &newest)) {
            return Ok(text.clone());
        }
        let series = last.take().map(|(scrape, _)| scrape.series);
        let scrape = Scrape::new(newest, series.unwrap_or_default());
        let text: Arc<str> = text(scrape.families())?.into();
        *last = Some((scrape, text.clone()));
        Ok(text)
    }
}

/// Metrics without series are left out.
fn text(families: impl IntoIterator<Item = MetricFamily>) -> prometheus::Result<String> {
    let mut families: Vec<_> = families.into_iter().filter(|family| !family.get_metric().is_empty()).collect();
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

/// What must be remembered from scrape to scrape, so that no counter goes back.
#[derive(Default)]
struct Series {
    no_listener: PortSeries,
    listeners: ListenerSeries,
    tuples: TupleSeries,
    failures: FailureSeries<ports::Destination, ports::Caller>,
    conflicts: FailureSeries<ports::Bound, u32>,
}

/// A snapshot, and what of it has series of its own.
struct Scrape {
    snapshot: Arc<Snapshot>,
    series: Series,
}

impl Scrape {
    /// `series` are those of the last scrape.
    fn new(snapshot: Arc<Snapshot>, mut series: Series) -> Self {
        let received = snapshot.syns(SynTarget::NoListener).total();
        let syns = snapshot.no_listener.delivered(received);
        series.no_listener.update(snapshot.uptime, syns, &snapshot.no_listener);
        series.listeners.update(&snapshot.listeners);
        ports::update(&mut series, &snapshot);
        Self { snapshot, series }
    }

    /// The listeners that have series of their own.
    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.snapshot.listeners.iter().filter(|listener| self.series.listeners.has_own(listener))
    }

    fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let of_snapshot = [packets::METRICS, sockets::METRICS, host::METRICS].into_iter();
        let of_series = [packets::NO_LISTENER, listeners::METRICS, floods::METRICS, ports::METRICS].into_iter();
        families(host::BUILD, &())
            .chain(of_snapshot.flat_map(|rows| families(rows, &*self.snapshot)))
            .chain(of_series.flat_map(|rows| families(rows, self)))
            .chain(listeners::table(self))
            .chain(ports::tables(self))
    }
}

#[cfg(test)]
mod tests {
    use tracker_model::api::{PortFailure, Ports};

    use super::*;

    #[test]
    fn failures_stay_counted_when_the_daemon_forgets_who_called() {
        let (kernel, ends) = KernelHandle::new();
        let (metrics, snapshot) = (Metrics::new(kernel), tracker_fixtures::under_shortage());
        let failure = &snapshot.ports.failures[0];
        for (count, sum) in [(Some(3), 3), (None, 3), (Some(2), 5)] {
            let failures = count.map(|count| PortFailure { count, ..failure.clone() }).into_iter().collect();
            let ports = Ports { failures, ..Ports::clone(&snapshot.ports) }.into();
            ends.snapshots.send_replace(Some(Snapshot { ports, ..snapshot.clone() }.into()));
            let line = format!(",destination=\"{}\",destination_port=\"443\"}} {sum}\n", failure.destination);
            let text = metrics.snapshot_text().unwrap();
            let mut lines = text.split_inclusive('\n').filter(|line| line.contains("allocation_failures_total{"));
            assert!(lines.any(|found| found.ends_with(&line)), "{line} is not in {text}");
        }
    }

    #[test]
    fn a_snapshot_is_rendered_once_and_the_process_is_of_the_moment() {
        let metrics = Metrics::new(KernelHandle::fixed(Some(tracker_fixtures::snapshot()), None));
        let [first, second] = [(), ()].map(|()| metrics.snapshot_text().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let open = |text: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap();
            line.parse().unwrap()
        };
        let before = open(&metrics.encode().unwrap());
        // More than other tests of this process close meanwhile.
        let _files: Vec<_> = (0..500).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open(&metrics.encode().unwrap()) > before);
        assert!(metrics.encode().unwrap().ends_with(&*first));
    }
}
