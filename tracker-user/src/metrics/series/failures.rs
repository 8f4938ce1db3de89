//! Calls that fail: a series for each of at most 32 subjects, such as destinations, and one for the rest.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};

/// Most subjects that have a series at one moment.
const MAX: usize = 32;
/// A series that has not grown for this long gives way to a subject whose calls fail now.
const IDLE: Duration = Duration::from_mins(10);

/// Counts by subject that never go back while they are there, though the daemon forgets who called after some time. Nor
/// does the count of the others.
///
/// When no series is free, a subject whose calls fail now replaces one whose calls have not failed for [`IDLE`]. The
/// count of the replaced one is dropped: added to the others it would look like calls that failed just now. If that
/// subject comes back, it starts at zero.
#[derive(Debug)]
pub struct FailureSeries<Subject, Caller> {
    own: BTreeMap<Subject, Own>,
    other: u64,
    last: HashMap<(Subject, Caller), u64>,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    count: u64,
    grown_at: Duration,
}

impl<Subject, Caller> Default for FailureSeries<Subject, Caller> {
    fn default() -> Self {
        Self { own: BTreeMap::new(), other: 0, last: HashMap::new() }
    }
}

impl<Subject: Copy + Ord + Hash, Caller: Eq + Hash> FailureSeries<Subject, Caller> {
    /// Adds the failures of a snapshot, by subject and caller. `now` is of the monotonic clock.
    pub fn update(&mut self, now: Duration, failures: impl IntoIterator<Item = (Subject, Caller, u64)>) {
        // A caller may have several rows.
        let mut counts: HashMap<(Subject, Caller), u64> = HashMap::new();
        for (subject, caller, count) in failures {
            *counts.entry((subject, caller)).or_default() += count;
        }
        let mut grown: BTreeMap<Subject, u64> = BTreeMap::new();
        for (caller, count) in &counts {
            let before = self.last.get(caller).copied().unwrap_or_default();
            // Fewer than before: it was forgotten, and has failed again since.
            let new = count.checked_sub(before).unwrap_or(*count);
            if new > 0 {
                *grown.entry(caller.0).or_default() += new;
            }
        }
        self.last = counts;
        // First those that have a series: only then is it known which of them are idle.
        let (own, without): (Vec<_>, Vec<_>) =
            grown.into_iter().partition(|(subject, _)| self.own.contains_key(subject));
        for (subject, new) in own.into_iter().chain(without) {
            match self.place(subject, now) {
                Some(own) => {
                    own.count += new;
                    own.grown_at = now;
                }
                None => self.other += new,
            }
        }
    }

    /// The series of a subject, if it has one or gets one; removes another if that makes room.
    fn place(&mut self, subject: Subject, now: Duration) -> Option<&mut Own> {
        if self.own.len() >= MAX && !self.own.contains_key(&subject) {
            let (victim, own) = self.own.iter().min_by_key(|(_, own)| own.grown_at)?;
            if now.saturating_sub(own.grown_at) < IDLE {
                return None;
            }
            let victim = *victim;
            self.own.remove(&victim);
        }
        Some(self.own.entry(subject).or_insert(Own { count: 0, grown_at: now }))
    }

    /// The subjects that have a series, with the calls that failed.
    pub fn own(&self) -> impl Iterator<Item = (Subject, u64)> {
        self.own.iter().map(|(subject, own)| (*subject, own.count))
    }

    /// Calls that failed while there was no place for their subject.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By port and process.
    type Series = FailureSeries<u16, u32>;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn counts(series: &Series) -> Vec<(u16, u64)> {
        series.own().collect()
    }

    #[test]
    fn callers_are_added_up_and_what_is_forgotten_stays_counted() {
        let mut series = Series::default();
        series.update(at(0), [(80, 1, 5), (80, 2, 3), (80, 2, 1), (90, 1, 2)]);
        assert_eq!(counts(&series), [(80, 9), (90, 2)]);
        series.update(at(15), [(80, 1, 6)]);
        series.update(at(30), [(80, 1, 6)]);
        assert_eq!(counts(&series), [(80, 10), (90, 2)]);
        series.update(at(45), [(80, 1, 4), (80, 2, 1)]);
        assert_eq!((counts(&series), series.other()), (vec![(80, 15), (90, 2)], 0));
    }

    #[test]
    fn an_idle_series_gives_way_and_no_other_does() {
        let mut series = Series::default();
        let all: Vec<_> = (1..=32).map(|port| (port, 1, 10)).collect();
        series.update(at(0), all.clone());
        series.update(at(30), all.into_iter().chain([(99, 1, 7)]));
        assert_eq!((series.own().count(), series.other()), (MAX, 7));
        // Port 1 fails again, so it is not idle.
        series.update(at(600), [(1, 1, 11), (99, 1, 8), (98, 1, 1)]);
        let now = counts(&series);
        assert_eq!((now.len(), series.other()), (MAX, 7), "what gave way has not failed now");
        assert_eq!(now[..2], [(1, 11), (4, 10)]);
        assert!(now.contains(&(99, 1)) && now.contains(&(98, 1)), "{now:?}");
    }

    #[test]
    fn no_count_goes_back_and_series_are_bounded_whatever_happens() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..100 {
            let (mut series, mut second, mut other) = (Series::default(), 0, 0);
            let mut before: BTreeMap<u16, u64> = BTreeMap::new();
            for _ in 0..100 {
                second += next(200);
                let rows: Vec<_> = (0..next(60))
                    .map(|_| (u16::try_from(next(60)).unwrap(), u32::try_from(next(3)).unwrap(), next(50)))
                    .collect();
                series.update(at(second), rows);
                let now: BTreeMap<_, _> = series.own().collect();
                assert!(series.other() >= other && now.len() <= MAX);
                assert!(now.iter().all(|(key, count)| before.get(key).is_none_or(|before| before <= count)));
                (other, before) = (series.other(), now);
            }
        }
    }
}
