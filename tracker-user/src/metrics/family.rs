//! How the samples of a metric are put together.

use std::collections::HashMap;

use prometheus::{
    core::Desc,
    proto::{self, Bucket, Counter, Gauge, LabelPair, MetricFamily, MetricType},
};
use tracker_common::histogram::{Histogram, edge_us};
pub(super) use tracker_model::field::Metric;
use tracker_model::field::{self, Field, Kind, Read};

const MICROSECONDS: f64 = 1e6;

/// Fills metrics.
pub(super) trait Fill {
    /// Begins to fill it.
    fn samples(&'static self) -> Samples;
}

impl Fill for Metric {
    fn samples(&'static self) -> Samples {
        Samples { metric: self, rows: Vec::new() }
    }
}

/// The samples of one metric.
pub(super) struct Samples {
    metric: &'static Metric,
    rows: Vec<proto::Metric>,
}

impl Samples {
    /// Adds the value of a counter or gauge; `labels` are in the order of the metric's.
    pub(super) fn add(&mut self, labels: &[&str], value: f64) {
        let mut row = self.row(labels);
        if self.metric.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            row.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            row.set_gauge(gauge);
        }
        self.rows.push(row);
    }

    /// Adds the value of a metric without labels, if it is known.
    pub(super) fn set(&mut self, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.add(&[], value);
        }
    }

    /// Adds a count.
    pub(super) fn count(&mut self, labels: &[&str], value: u64) {
        self.add(labels, float(value));
    }

    /// Adds a histogram whose first edge is `2^shift` µs.
    pub(super) fn histogram(&mut self, labels: &[&str], histogram: &Histogram, shift: u32) {
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
        let mut row = self.row(labels);
        row.set_histogram(proto);
        self.rows.push(row);
    }

    /// Adds what [`Field::counts`] returned.
    fn counts<T>(&mut self, labels: &[&str], field: &Field<T>, counts: &[u64]) {
        match field.read {
            _ if counts.is_empty() => {}
            Read::Count(_) | Read::Number(_) => self.count(labels, counts[0]),
            Read::Each(series, _) => {
                for (last, count) in series.iter().zip(counts) {
                    self.count(&[labels, last].concat(), *count);
                }
            }
            Read::Histogram(shift, _) => self.histogram(labels, &field::histogram(counts), shift),
        }
    }

    fn row(&self, values: &[&str]) -> proto::Metric {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        proto::Metric::from_label(self.metric.labels.iter().zip(values).map(pair).collect())
    }

    /// All of them.
    pub(super) fn family(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(match self.metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.rows);
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
        let mut samples = row.metric.samples();
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
        Self { fields, samples: fields.iter().map(|field| field.metric.as_ref().map(Metric::samples)).collect() }
    }

    /// Adds the figures of one item.
    pub(super) fn add(&mut self, labels: &[&str], item: &T) {
        for (samples, field) in self.samples.iter_mut().zip(self.fields) {
            match (samples, &field.read) {
                (None, _) => {}
                (Some(samples), Read::Number(read)) => {
                    if let Some(value) = read(item) {
                        samples.add(labels, value);
                    }
                }
                (Some(samples), _) => samples.counts(labels, field, &field.counts(item)),
            }
        }
    }

    /// Adds sums over several items: for each field what [`Field::counts`] returns of an item.
    pub(super) fn add_sums(&mut self, labels: &[&str], sums: &[Vec<u64>]) {
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

/// The metrics of a field table.
pub(super) fn metrics<T>(fields: &'static [Field<T>]) -> impl Iterator<Item = &'static Metric> {
    fields.iter().filter_map(|field| field.metric.as_ref())
}

/// The text format has floats only.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no counter of a host reaches in years")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// Descriptions for the registry, which refuses bad names and duplicates.
pub(super) fn descs(metrics: impl Iterator<Item = &'static Metric>) -> prometheus::Result<Vec<Desc>> {
    metrics
        .map(|metric| {
            let labels = metric.labels.iter().map(|&label| label.to_owned()).collect();
            Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, HashMap::new())
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use tracker_common::histogram::BUCKETS;

    use super::*;

    fn row<'a>(families: &'a [MetricFamily], name: &str, labels: &[&str]) -> Option<&'a proto::Metric> {
        let family = families.iter().find(|family| family.name() == name)?;
        let is_it = |row: &&proto::Metric| row.get_label().iter().map(LabelPair::value).eq(labels.iter().copied());
        family.get_metric().iter().find(is_it)
    }

    /// The value of the series with these label values, in the order of the metric's labels.
    pub(in crate::metrics) fn value(families: &[MetricFamily], name: &str, labels: &[&str]) -> Option<f64> {
        let row = row(families, name, labels)?;
        let family = families.iter().find(|family| family.name() == name)?;
        Some(match family.get_field_type() {
            MetricType::COUNTER => row.get_counter().get_value(),
            _ => row.get_gauge().get_value(),
        })
    }

    static TIME: Metric = Metric::histogram("time_seconds", &["port"], "Time.");

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let mut histogram = Histogram { sum_us: 3_000_000, ..Histogram::default() };
        histogram.buckets[0] = 2;
        histogram.buckets[2] = 3;
        histogram.buckets[BUCKETS - 1] = 4;
        let mut samples = TIME.samples();
        samples.histogram(&["80"], &histogram, 4);
        let family = samples.family();
        let proto = family.get_metric()[0].get_histogram();
        let bucket =
            |index: usize| (proto.get_bucket()[index].upper_bound(), proto.get_bucket()[index].cumulative_count());
        assert_eq!([bucket(0), bucket(1), bucket(2)], [(16e-6, 2), (32e-6, 2), (64e-6, 5)]);
        assert_eq!(bucket(BUCKETS - 2).1, 5, "the last bucket has no edge; the encoder adds it as +Inf");
        assert_eq!((proto.get_bucket().len(), proto.get_sample_count()), (BUCKETS - 1, 9));
        assert!((proto.get_sample_sum() - 3.0).abs() < f64::EPSILON);
    }
}
