//! Reading of Prometheus' text format, as far as the tests need it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series, with `_bucket`, `_sum` or `_count` for parts of a histogram.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The text as it was served.
    pub text: String,
    samples: Vec<Sample>,
}

impl Scrape {
    /// Parses a scrape. Values of labels must be free of commas and quotes, as tracker's are.
    pub fn parse(text: String) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| parse_line(line).with_context(|| format!("line {line}"))).collect::<Result<_>>()?;
        Ok(Self { text, samples })
    }

    /// The series of a name whose labels include all of `labels`.
    pub fn select<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        })
    }

    /// The sum of the series of a name whose labels include all of `labels`.
    ///
    /// # Panics
    /// When the series is missing: it is there also at zero.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut values = self.select(name, labels).map(|sample| sample.value).peekable();
        assert!(values.peek().is_some(), "no series {name} {labels:?} in:\n{}", self.text);
        values.sum()
    }

    /// The buckets of a histogram, summed over its series: upper edge to how many are in this bucket alone.
    #[must_use]
    pub fn buckets(&self, histogram: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let name = format!("{histogram}_bucket");
        let mut cumulative: Vec<(f64, f64)> = Vec::new();
        for sample in self.select(&name, labels) {
            let edge: f64 = sample.labels["le"].replace("+Inf", "inf").parse().expect("an edge is a number");
            match cumulative.iter_mut().find(|(known, _)| known.total_cmp(&edge).is_eq()) {
                Some((_, count)) => *count += sample.value,
                None => cumulative.push((edge, sample.value)),
            }
        }
        assert!(!cumulative.is_empty(), "no histogram {histogram} {labels:?} in:\n{}", self.text);
        cumulative.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        let mut before = 0.0;
        cumulative.iter().map(|&(edge, count)| (edge, count - std::mem::replace(&mut before, count))).collect()
    }
}

fn parse_line(line: &str) -> Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').context("labels without end")?),
    };
    let pair = |pair: &str| -> Result<(String, String)> {
        let (key, value) = pair.split_once('=').context("a label without value")?;
        Ok((key.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(pair).collect::<Result<_>>()?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are small integers, which are exact")]
    fn series_are_found_by_name_and_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab 5\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(scrape.sum("a", &[("y", "2")]), 7.0);
        assert_eq!(scrape.sum("a", &[("x", "2")]), 4.0);
        assert_eq!(scrape.sum("ab", &[]), 5.0);
    }

    #[test]
    fn buckets_are_told_apart() {
        let text = "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"0.2\"} 4\nh_bucket{le=\"+Inf\"} 4\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(scrape.buckets("h", &[]), [(0.1, 1.0), (0.2, 3.0), (f64::INFINITY, 0.0)]);
    }
}
