//! A figure, described once: its metric, how to read it, and its column. Exporter, command line and docs go by these
//! tables. No table stands here: each is beside the type that its figures are of.

use tracker_common::histogram::{BUCKETS, Histogram};

use crate::text;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, except when the daemon restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by duration.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name; it ends in the unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// A histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }
}

/// How a figure of a `T` is read.
pub enum Read<T: 'static> {
    /// A count; none while it is not known.
    Count(fn(&T) -> Option<u64>),
    /// A number with decimals; none while it is not known.
    Number(fn(&T) -> Option<f64>),
    /// A count for each of these values of the metric's last labels.
    Each(&'static [&'static [&'static str]], fn(&T) -> Vec<u64>),
    /// Counts by duration; the first edge is `2^shift` µs.
    Histogram(u32, fn(&T) -> &Histogram),
}

/// A figure of a `T`. One without a metric is only shown, one without a column only exported.
pub struct Field<T: 'static> {
    /// Its metric.
    pub metric: Option<Metric>,
    /// What its column says, in one line.
    pub help: &'static str,
    /// How it is read.
    pub read: Read<T>,
    /// Whether a sum over several items says anything; of limits it does not.
    pub is_summed: bool,
    /// Its column in the table of the command line.
    pub column: Option<Column<T>>,
}

/// A column of numbers.
pub struct Column<T: 'static> {
    /// Its head.
    pub head: &'static str,
    /// Whether only `-o wide` shows it.
    pub is_wide: bool,
    /// Its cell, where it is not the figure alone.
    cell: Option<fn(&T) -> String>,
}

impl<T> Field<T> {
    /// Shows the figure in a column of this head.
    #[must_use]
    pub const fn column(self, head: &'static str) -> Self {
        Self { column: Some(Column { head, is_wide: false, cell: None }), ..self }
    }

    /// The same, in `-o wide` alone.
    #[must_use]
    pub const fn wide(self, head: &'static str) -> Self {
        Self { column: Some(Column { head, is_wide: true, cell: None }), ..self }
    }

    /// The cell, where it is not the figure alone.
    #[must_use]
    pub const fn cell(self, cell: fn(&T) -> String) -> Self {
        match self.column {
            Some(column) => Self { column: Some(Column { cell: Some(cell), ..column }), ..self },
            None => self,
        }
    }

    /// Whether a sum over several items says anything.
    #[must_use]
    pub const fn summed(self, is_summed: bool) -> Self {
        Self { is_summed, ..self }
    }

    /// What the column says, where it is not what the metric says.
    #[must_use]
    pub const fn about(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// All counts of the figure, a histogram's buckets and sum among them. Empty while it is not known, and of numbers
    /// with decimals, which no one adds up.
    #[must_use]
    pub fn counts(&self, of: &T) -> Vec<u64> {
        match self.read {
            Read::Count(read) => read(of).into_iter().collect(),
            Read::Number(_) => Vec::new(),
            Read::Each(_, read) => read(of),
            Read::Histogram(_, read) => {
                let histogram = read(of);
                histogram.buckets.iter().copied().chain([histogram.sum_us]).collect()
            }
        }
    }

    /// What the column shows.
    #[must_use]
    pub fn text(&self, of: &T) -> String {
        match (self.column.as_ref().and_then(|column| column.cell), &self.read) {
            (Some(cell), _) => cell(of),
            (None, Read::Count(read)) => text::known(read(of)),
            (None, Read::Number(read)) => text::or_unknown(read(of), text::rate),
            (None, Read::Each(_, read)) => text::grouped(read(of).into_iter().sum()),
            (None, Read::Histogram(_, read)) => text::grouped(read(of).buckets.iter().sum()),
        }
    }
}

/// The histogram whose buckets and sum [`Field::counts`] returned.
#[must_use]
pub fn histogram(counts: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    if let Some((buckets, sum)) = counts.split_first_chunk::<BUCKETS>() {
        histogram.buckets = *buckets;
        histogram.sum_us = sum.first().copied().unwrap_or_default();
    }
    histogram
}

/// A field table. A row is `KIND LABELS "metric" "help" => READ, METHOD ARGUMENT, …;`, where the methods are those of
/// [`Field`] that give it a column. Without kind to metric the figure is only shown.
macro_rules! fields {
    ($of:ty; $(
        $($kind:ident $labels:ident $name:literal)? $help:literal => $read:expr $(, $method:ident $argument:expr)*;
    )*) => {
        &[$( {
            const READ: $crate::field::Read<$of> = $read;
            const METRIC: Option<$crate::field::Metric> = fields!(@ $($kind $labels $name)? $help);
            $crate::field::Field { metric: METRIC, help: $help, read: READ, is_summed: true, column: None }
                $( .$method($argument) )*
        }, )*]
    };
    (@ $help:literal) => { None };
    (@ $kind:ident $labels:ident $name:literal $help:literal) => {
        Some($crate::field::Metric::$kind($name, $labels, $help))
    };
}
pub(crate) use fields;
