//! What the daemon says while a case goes on, and how fast it answers.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use tracker_model::api::{Alert, AlertKind};

use crate::{api::Api, counters::Counters};

/// Alerts of one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When the answer was there.
    pub at: Instant,
    /// What the daemon says when its figures were read.
    pub taken_at: Timestamp,
    /// All alerts of this run, whatever they are about.
    pub alerts: Vec<Alert>,
}

/// Readings, from when it was made on.
#[derive(Debug)]
pub struct Watch<'a> {
    api: Api,
    client: &'a Counters,
    /// Alerts up to this one are of earlier runs.
    known: Option<u64>,
    /// Readings in the order of time.
    pub readings: Vec<Reading>,
    /// How long each answer took.
    pub took: Vec<Duration>,
    /// SYNs that the clients had sent, at moments.
    pub syns: Vec<(Timestamp, u64)>,
}

impl<'a> Watch<'a> {
    /// Begins to watch: alerts that are there already are none of this run's.
    pub fn new(api: Api, client: &'a Counters) -> Result<Self> {
        let known = api.alerts()?.answer.alerts.iter().map(|alert| alert.id).max();
        Ok(Self { api, client, known, readings: Vec::new(), took: Vec::new(), syns: Vec::new() })
    }

    /// Asks once.
    pub fn look(&mut self) -> Result<&Reading> {
        self.syns.push((Timestamp::now(), self.client.syns_sent()?));
        let timed = self.api.alerts()?;
        self.took.push(timed.took);
        let taken_at = timed.answer.taken_at;
        let mut alerts = timed.answer.alerts;
        alerts.retain(|alert| self.known.is_none_or(|known| alert.id > known));
        self.readings.push(Reading { at: Instant::now(), taken_at, alerts });
        Ok(self.readings.last().expect("just put there"))
    }

    /// Asks every `interval` until `enough` says so of what was read last, or `limit` is over; whether it did.
    pub fn until(
        &mut self,
        interval: Duration,
        limit: Duration,
        mut enough: impl FnMut(&Reading) -> bool,
    ) -> Result<bool> {
        let start = Instant::now();
        let mut next = start;
        while start.elapsed() < limit {
            if enough(self.look()?) {
                return Ok(true);
            }
            next = (next + interval).max(Instant::now());
            thread::sleep(next - Instant::now().min(next));
        }
        Ok(false)
    }

    /// SYNs that the clients had sent until a moment, in the proportion between the two nearest readings.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn syns_at(&self, moment: Timestamp) -> f64 {
        let next = self.syns.partition_point(|(at, _)| *at <= moment);
        match (next.checked_sub(1).and_then(|index| self.syns.get(index)), self.syns.get(next)) {
            (Some(&(before, low)), Some(&(after, high))) => {
                let share = moment.duration_since(before).as_secs_f64() / after.duration_since(before).as_secs_f64();
                low as f64 + (high - low) as f64 * share
            }
            (Some(&(_, last)), None) => last as f64,
            (None, first) => first.map_or(0.0, |&(_, count)| count as f64),
        }
    }

    /// The longest answer, and the one that 99 of 100 were faster than.
    #[must_use]
    pub fn slowest(&self) -> (Duration, Duration) {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1))).copied();
        (took.last().copied().unwrap_or_default(), at(99).unwrap_or_default())
    }

    /// Alerts of a kind that were ever seen, each as it was seen last.
    #[must_use]
    pub fn seen(&self, kind: AlertKind) -> Vec<&Alert> {
        let mut seen = std::collections::BTreeMap::new();
        let alerts = self.readings.iter().flat_map(|reading| &reading.alerts);
        for alert in alerts.filter(|alert| alert.kind == kind) {
            seen.insert(alert.id, alert);
        }
        seen.into_values().collect()
    }
}
