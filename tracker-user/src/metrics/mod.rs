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

use crate::metrics::series::{ListenerSeries, PortSeries};
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tracker_model::{Snapshot, field::Metric};

use crate::kernel::KernelHandle;

/// Every metric of the daemon, by the subject it is of; that is also the name of the table in docs/metrics.md.
#[must_use]
pub fn all() -> [(&'static str, Vec<&'static Metric>); 7] {
    [
        ("packets", packets::metrics().collect()),
        ("listeners", listeners::metrics().collect()),
        ("floods", floods::METRICS.to_vec()),
        ("sockets", sockets::METRICS.iter().map(|row| &row.metric).collect()),
        ("ports", ports::metrics().collect()),
        ("host", host::metrics().collect()),
        ("process", process::METRICS.iter().map(|row| &row.metric).collect()),
    ]
}

/// All metrics. Clones share the text of the last snapshot.
#[derive(Clone)]
pub struct Metrics {
    kernel: KernelHandle,
    snapshot: Registry,
    process: Registry,
    rendered: Arc<Mutex<Option<Rendered>>>,
}

/// A snapshot, and its text: a scrape costs a copy of it until there is a new snapshot.
struct Rendered {
    of: Arc<Snapshot>,
    text: Arc<str>,
}

impl Metrics {
    /// Registers everything that is exported.
    pub fn new(kernel: KernelHandle) -> prometheus::Result<Self> {
        let [snapshot, process] = [Registry::new(), Registry::new()];
        snapshot.register(Box::new(SnapshotCollector::new(kernel.clone())?))?;
        process.register(Box::new(process::ProcessCollector::new()?))?;
        Ok(Self { kernel, snapshot, process, rendered: Arc::default() })
    }

    /// All metrics in the text format, by name. Those of the process are of this moment.
    pub fn encode(&self) -> prometheus::Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.process.gather())? + &*self.snapshot_text()?)
    }

    fn snapshot_text(&self) -> prometheus::Result<Arc<str>> {
        let newest = self.kernel.snapshot();
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(newest), Some(rendered)) = (&newest, &*rendered)
            && Arc::ptr_eq(newest, &rendered.of)
        {
            return Ok(rendered.text.clone());
        }
        let text: Arc<str> = TextEncoder::new().encode_to_string(&self.snapshot.gather())?.into();
        *rendered = newest.map(|of| Rendered { of, text: text.clone() });
        Ok(text)
    }
}

/// What must be remembered from scrape to scrape, so that no counter goes back.
#[derive(Default)]
struct Series {
    no_listener: PortSeries,
    listeners: ListenerSeries,
    ports: ports::Series,
}

/// Makes metrics of the last snapshot.
struct SnapshotCollector {
    kernel: KernelHandle,
    series: Mutex<Series>,
    descs: Vec<Desc>,
}

impl SnapshotCollector {
    fn new(kernel: KernelHandle) -> prometheus::Result<Self> {
        // Those of the process are another collector's.
        let of_snapshot = all().into_iter().filter(|(subject, _)| *subject != "process");
        let descs = family::descs(of_snapshot.flat_map(|(_, metrics)| metrics))?;
        Ok(Self { kernel, series: Mutex::default(), descs })
    }
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![host::build_info()];
        if let Some(snapshot) = self.kernel.snapshot() {
            let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            families.extend(of(&snapshot, &mut series));
        }
        families
    }
}

fn of(snapshot: &Snapshot, series: &mut Series) -> Vec<MetricFamily> {
    let mut families: Vec<_> = family::families(packets::METRICS, snapshot).collect();
    families.push(packets::no_listener(snapshot, &mut series.no_listener));
    let split = series.listeners.update(&snapshot.listeners);
    families.extend(listeners::families(&split));
    families.extend(floods::families(snapshot, &split));
    families.extend(family::families(sockets::METRICS, snapshot));
    families.extend(ports::families(snapshot, &mut series.ports));
    families.extend(family::families(host::METRICS, snapshot));
    families
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use tracker_model::api::Verdict;

    use super::*;

    fn text(snapshot: Snapshot) -> String {
        Metrics::new(KernelHandle::fixed(Some(snapshot), None)).unwrap().encode().unwrap()
    }

    fn full() -> Snapshot {
        let mut snapshot = tracker_fixtures::under_flood();
        snapshot.ports = ports::tests::ports().into();
        snapshot
    }

    fn sample() -> String {
        text(full())
    }

    /// The whole scrape of the snapshot, but for the figures of the process.
    #[test]
    fn a_scrape_is_that_of_the_golden() {
        let metrics = Metrics::new(KernelHandle::fixed(Some(full()), None)).unwrap();
        let text = metrics.snapshot_text().unwrap();
        let text: String = text.split_inclusive('\n').filter(|line| !line.contains("tracker_build_info")).collect();
        crate::golden::compare(Path::new("scrape.txt"), &text);
    }

    fn metrics() -> impl Iterator<Item = &'static Metric> {
        all().into_iter().flat_map(|(_, metrics)| metrics)
    }

    #[test]
    fn a_full_snapshot_fills_every_metric_and_no_other() {
        let text = sample();
        let filled: BTreeSet<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let known: BTreeSet<_> = metrics().map(|metric| metric.name).collect();
        assert_eq!(filled, known);
    }

    #[test]
    fn no_series_appears_twice() {
        let mut seen = BTreeSet::new();
        for line in sample().lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series.to_owned()), "{series}");
        }
    }

    #[test]
    fn every_label_is_declared() {
        let metrics = Metrics::new(KernelHandle::fixed(Some(full()), None)).unwrap();
        for family in [metrics.snapshot.gather(), metrics.process.gather()].concat() {
            let metric = self::metrics().find(|metric| metric.name == family.name()).unwrap();
            for series in family.get_metric() {
                let labels: Vec<_> = series.get_label().iter().map(prometheus::proto::LabelPair::name).collect();
                assert_eq!(labels, metric.labels, "{}", metric.name);
            }
        }
    }

    #[test]
    fn a_snapshot_is_rendered_once_and_the_process_is_of_the_moment() {
        let metrics = Metrics::new(KernelHandle::fixed(Some(tracker_fixtures::snapshot()), None)).unwrap();
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

    #[test]
    fn a_scrape_is_bounded_whatever_the_number_of_listeners() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.listeners = (1..=1_024).map(|port| tracker_fixtures::listener("192.0.2.1", port)).collect();
        for listener in &mut snapshot.listeners {
            listener.verdict = Some(Verdict::default());
        }
        let text = text(snapshot);
        let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
        assert_eq!(of("tracker_listener_sockets"), 257);
        assert!(text.contains("tracker_listener_sockets{address=\"other\",port=\"other\"} 768\n"));
        assert_eq!(of("tracker_listener_verdict"), 256 * 6, "the others have none");
    }
}
