//! Metrics: the last snapshot as Prometheus sees it. A scrape reads nothing from the kernel, so it costs the same at
//! any number of sockets.

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

use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tracker_model::Snapshot;
use crate::metrics::series::{AlertSeries, ListenerSeries, PortSeries};

pub use family::{Kind, Metric};

use crate::source::Source;

/// Every metric of the daemon, by the file that fills it.
pub const ALL: [&[&Metric]; 7] = [
    &packets::METRICS,
    &listeners::METRICS,
    &floods::METRICS,
    &sockets::METRICS,
    &ports::METRICS,
    &host::METRICS,
    &process::METRICS,
];

/// The registry of all metrics.
#[derive(Clone)]
pub struct Metrics(Registry);

impl Metrics {
    /// Registers everything that is exported.
    pub fn new(source: Arc<dyn Source>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(SnapshotCollector::new(source)?))?;
        registry.register(Box::new(process::ProcessCollector::new()?))?;
        Ok(Self(registry))
    }

    /// All metrics in the text format.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

/// What must be remembered from scrape to scrape, so that no counter goes back.
#[derive(Default)]
struct Series {
    no_listener: PortSeries,
    listeners: ListenerSeries,
    alerts: AlertSeries,
    ports: ports::Series,
}

/// Makes metrics of the last snapshot.
struct SnapshotCollector {
    source: Arc<dyn Source>,
    series: Mutex<Series>,
    descs: Vec<Desc>,
}

impl SnapshotCollector {
    fn new(source: Arc<dyn Source>) -> prometheus::Result<Self> {
        // The last are those of the process, which another collector fills.
        let descs = family::descs(ALL[..ALL.len() - 1].iter().copied().flatten())?;
        Ok(Self { source, series: Mutex::default(), descs })
    }
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![host::build_info()];
        if let Some(snapshot) = self.source.snapshot() {
            let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            families.extend(of(&snapshot, &mut series));
        }
        families
    }
}

fn of(snapshot: &Snapshot, series: &mut Series) -> Vec<MetricFamily> {
    let mut families = packets::families(snapshot, &mut series.no_listener);
    let split = series.listeners.update(&snapshot.listeners);
    families.extend(listeners::families(&split));
    families.extend(floods::families(snapshot, &split, &mut series.alerts));
    families.extend(sockets::families(snapshot));
    families.extend(ports::families(snapshot, &mut series.ports));
    families.extend(host::families(snapshot));
    families
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        io::Write as _,
        process::{Command, Stdio},
    };

    use tracker_model::api::Verdict;

    use super::*;
    use crate::source::Fixed;

    fn text(snapshot: Snapshot) -> String {
        Metrics::new(Arc::new(Fixed(Some(Arc::new(snapshot))))).unwrap().encode().unwrap()
    }

    fn full() -> Snapshot {
        let mut snapshot = tracker_fixtures::under_flood();
        snapshot.ports = ports::tests::ports().into();
        snapshot
    }

    fn sample() -> String {
        text(full())
    }

    #[test]
    fn a_full_snapshot_fills_every_metric_and_no_other() {
        let text = sample();
        let filled: BTreeSet<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let known: BTreeSet<_> = ALL.into_iter().flatten().map(|metric| metric.name).collect();
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
        let source = Arc::new(Fixed(Some(Arc::new(full()))));
        for family in Metrics::new(source).unwrap().0.gather() {
            let metric = ALL.into_iter().flatten().find(|metric| metric.name == family.name()).unwrap();
            for series in family.get_metric() {
                let labels: Vec<_> = series.get_label().iter().map(prometheus::proto::LabelPair::name).collect();
                assert_eq!(labels, metric.labels, "{}", metric.name);
            }
        }
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let Ok(mut promtool) = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            eprintln!("skipped: there is no promtool (Debian: prometheus)");
            return;
        };
        promtool.stdin.take().unwrap().write_all(sample().as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
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
