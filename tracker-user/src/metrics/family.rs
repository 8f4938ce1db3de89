//! How the samples of a metric are put together.

use std::{collections::BTreeMap, fmt::Display};

use prometheus::proto::{self, Bucket, Counter, Gauge, LabelPair, MetricFamily, MetricType};
use tracker_common::histogram::{Histogram, edge_us};
pub(super) use tracker_model::field::Metric;
use tracker_model::field::{self, Field, Kind, Read};

const MICROSECONDS: f64 = 1e6;

/// The samples of one metric.
pub(super) struct Samples {
    metric: &'static Metric,
    /// By the values of the labels: that is the order of a scrape.
    rows: BTreeMap<Vec<String>, proto::Metric>,
}

impl Samples {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, rows: BTreeMap::new() }
    }

    /// Adds the value of a counter or gauge; `labels` are in the order of the metric's. Counts of the same labels are
    /// added up: Prometheus refuses a scrape in which a series occurs twice.
    pub(super) fn add(&mut self, labels: &[&dyn Display], value: f64) {
        let is_counter = self.metric.kind == Kind::Counter;
        let row = self.row(labels);
        if is_counter {
            let mut counter = Counter::default();
            counter.set_value(row.get_counter().get_value() + value);
            row.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            row.set_gauge(gauge);
        }
    }

    /// Adds the value if it is known.
    pub(super) fn known(&mut self, labels: &[&dyn Display], value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }

    /// Adds the value of a metric without labels, if it is known.
    pub(super) fn set(&mut self, value: impl Into<Option<f64>>) {
        self.known(&[], value.into());
    }

    /// Adds a count.
    pub(super) fn count(&mut self, labels: &[&dyn Display], value: u64) {
        self.add(labels, float(value));
    }

    /// Adds a histogram whose first edge is `2^shift` µs.
    pub(super) fn histogram(&mut self, labels: &[&dyn Display], histogram: &Histogram, shift: u32) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(histogram.buckets.len());
        for (index, count) in histogram.buckets.iter().enumerate() {
            cumulative += count;
            if let Some(edge) = edge_us(index, shift) {
                let mut bucket = Bucket::default();
                bucket.set_cumulative_count(cumulative);
                bucket.set_upper_bound(float(edge) / MICROSECONDS);
                buckets.push(bucket);
            }
        }
        let mut proto = proto::Histogram::default();
        proto.set_bucket(buckets);
        proto.set_sample_count(cumulative);
        proto.set_sample_sum(float(histogram.sum_us) / MICROSECONDS);
        self.row(labels).set_histogram(proto);
    }

    /// Adds what [`Field::counts`] returned.
    fn counts<T>(&mut self, labels: &[&dyn Display], field: &Field<T>, counts: &[u64]) {
        match field.read {
            _ if counts.is_empty() => {}
            Read::Count(_) | Read::Number(_) => self.count(labels, counts[0]),
            Read::Each(series, _) => {
                for (last, count) in series.iter().zip(counts) {
                    let last: Vec<_> = last.iter().map(|label| label as &dyn Display).collect();
                    self.count(&[labels, &last].concat(), *count);
                }
            }
            Read::Histogram(shift, _) => self.histogram(labels, &field::histogram(counts), shift),
        }
    }

    fn row(&mut self, labels: &[&dyn Display]) -> &mut proto::Metric {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        let values: Vec<_> = labels.iter().map(ToString::to_string).collect();
        let pair = |(name, value): (&&str, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        };
        let pairs = self.metric.labels.iter().zip(&values).map(pair).collect();
        self.rows.entry(values).or_insert_with(|| proto::Metric::from_label(pairs))
    }

    /// All of them.
    fn family(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(match self.metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.rows.into_values().collect());
        family
    }
}

/// A metric of a `T` and how its samples are made. Where all metrics have the same labels, a [`Field`] is simpler.
pub(super) struct Row<T: 'static> {
    pub(super) metric: Metric,
    pub(super) fill: fn(&T, &mut Samples),
}

/// A table of [`Row`]s: `KIND "metric" ["label", …] "help" => |item, samples| …;`.
macro_rules! rows {
    ($of:ty; $($kind:ident $name:literal [$($label:literal),*] $help:literal => $fill:expr;)*) => {
        &[$( {
            const FILL: fn(&$of, &mut $crate::metrics::family::Samples) = $fill;
            $crate::metrics::family::Row { metric: Metric::$kind($name, &[$($label),*], $help), fill: FILL }
        }, )*]
    };
}
pub(super) use rows;

/// All metrics of a table of rows.
pub(super) fn families<T>(rows: &'static [Row<T>], of: &T) -> impl Iterator<Item = MetricFamily> {
    rows.iter().map(move |row| {
        let mut samples = Samples::new(&row.metric);
        (row.fill)(of, &mut samples);
        samples.family()
    })
}

/// The samples of all metrics of a field table.
pub(super) struct Table<T: 'static> {
    fields: &'static [Field<T>],
    samples: Vec<Option<Samples>>,
}

impl<T> Table<T> {
    /// Begins to fill them.
    pub(super) fn new(fields: &'static [Field<T>]) -> Self {
        Self { fields, samples: fields.iter().map(|field| field.metric.as_ref().map(Samples::new)).collect() }
    }

    /// Adds the figures of one item.
    pub(super) fn add(&mut self, labels: &[&dyn Display], item: &T) {
        for (samples, field) in self.samples.iter_mut().zip(self.fields) {
            match (samples, &field.read) {
                (None, _) => {}
                (Some(samples), Read::Number(read)) => samples.known(labels, read(item)),
                (Some(samples), _) => samples.counts(labels, field, &field.counts(item)),
            }
        }
    }

    /// Adds sums over several items: for each field what [`Field::counts`] returns of an item.
    pub(super) fn add_sums(&mut self, labels: &[&dyn Display], sums: &[Vec<u64>]) {
        for ((samples, field), sums) in self.samples.iter_mut().zip(self.fields).zip(sums) {
            if let Some(samples) = samples {
                samples.counts(labels, field, sums);
            }
        }
    }

    /// All of them.
    pub(super) fn families(self) -> impl Iterator<Item = MetricFamily> {
        self.samples.into_iter().flatten().map(Samples::family)
    }
}

/// The text format has floats only.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no counter of a host reaches in years")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
