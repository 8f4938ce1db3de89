//! The counters of one subject over the last seconds, and what they say of SYNs that nobody answered.

use std::{collections::VecDeque, time::Duration};

use crate::estimators::rate::per_second;

/// Points kept: more than [`super::settings::MOST_LAG`] and [`super::settings::WINDOW`] need at four a second.
const POINTS: usize = 40;
/// Points closer than this are merged, so that [`POINTS`] reach far enough back at any pace.
const LEAST_STEP: Duration = Duration::from_millis(120);
/// Points older than this are dropped.
const SPAN: Duration = Duration::from_secs(8);

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When, on the detector's clock.
    pub at: Duration,
    /// SYNs.
    pub syns: u64,
    /// Handshakes completed.
    pub completed: u64,
    /// Requests that are no longer, or not yet, anybody's concern: completed, complete and waiting for the first data,
    /// or reset by their client. Only grows.
    pub answered: u64,
    /// Of `syns`, those known to be unanswered since the history began; only of points that are [`SettledInterval`].
    pub unanswered: u64,
    /// Of `syns`, those that repeat an earlier one, an estimate.
    pub repeated: u64,
    /// SYNs that did not reach TCP.
    pub undelivered: u64,
    /// SYNs that the listener turned away, as of the last census.
    pub drops: Option<u64>,
    /// When that census was.
    pub drops_at: Duration,
}

impl Point {
    /// Whether nothing was counted between the two.
    fn same(&self, other: &Self) -> bool {
        let counts = |of: &Self| (of.syns, of.completed, of.answered, of.drops);
        counts(self) == counts(other)
    }
}

/// An interval old enough that what was to be answered in it has been.
#[derive(Clone, Copy, Debug)]
pub struct SettledInterval {
    /// Its start.
    pub from: Point,
    /// Its end.
    pub to: Point,
    /// SYNs newly known to be unanswered.
    pub unanswered: u64,
    /// Handshakes completed in it, or since the last step if those are more: a slow handshake completes later.
    pub completed: u64,
}

impl SettledInterval {
    /// SYNs of the interval less those that were answered in it: roughly those that went unanswered, if its load was
    /// steady.
    pub fn surplus(&self) -> u64 {
        (self.to.syns - self.from.syns).saturating_sub(self.to.answered - self.from.answered)
    }

    /// Its length, seconds.
    pub fn seconds(&self) -> f64 {
        (self.to.at.saturating_sub(self.from.at)).as_secs_f64()
    }
}

/// What is remembered of the counters.
#[derive(Debug)]
pub struct History {
    points: VecDeque<Point>,
    /// The last known point.
    known: Point,
    /// Lower bound of the SYNs that were never answered, counted from zero of both counters.
    bound: i128,
    /// Repeats that are not counted among the SYNs, up to the last known point.
    excused: u64,
    /// Recent completions for each of which one repeat may still be excused.
    credit: u64,
}

impl History {
    /// A history that begins here. SYNs that are under way count as unanswered before it.
    pub fn new(point: Point) -> Self {
        let bound = surplus(point.syns, point.answered);
        Self { points: VecDeque::from([point]), known: point, bound, excused: 0, credit: 0 }
    }

    /// Whether these counters went on from the last.
    pub fn continues(&self, point: &Point) -> bool {
        let last = self.last();
        last.at < point.at
            && last.syns <= point.syns
            && last.completed <= point.completed
            && last.answered <= point.answered
    }

    /// Starts again, because the counters did. Totals are kept.
    pub fn rebase(&mut self, point: Point) {
        let point = Point { unanswered: self.known.unanswered, ..point };
        *self = Self::new(point);
    }

    /// Adds the present counters, and returns the interval that has become known by them, if any.
    ///
    /// A SYN counts as unanswered when it is older than `lag` and answers, to whichever SYNs, do not make up for
    /// it: D = syns(now - lag) - answered(now) never exceeds the SYNs that were unanswered then, as long as a
    /// handshake takes at most `lag`, so its highest value is a lower bound of them that no legitimate surge raises.
    /// The surplus of SYNs over answers at that moment is an upper bound; handshakes that came later than `lag` are
    /// taken back by it.
    pub fn push(&mut self, mut point: Point, lag: Duration) -> Option<SettledInterval> {
        let before = *self.last();
        point.unanswered = self.known.unanswered;
        self.keep(point);
        let late = self.points[0].completed;
        self.credit = (self.credit + (point.completed - before.completed)).min(point.completed - late);
        let then = point.at.checked_sub(lag)?;
        let index = self.points.partition_point(|point| point.at <= then).checked_sub(1)?;
        let from = self.known;
        let mut to = self.points[index];
        if to.at <= from.at {
            to = self.idle(then).filter(|idle| idle.at.saturating_sub(from.at) >= LEAST_STEP)?;
        }
        let excused = to.repeated.saturating_sub(from.repeated).min(self.credit).min(to.syns - from.syns);
        (self.credit, self.excused) = (self.credit - excused, self.excused + excused);
        let syns = to.syns - self.excused;
        let unanswered = surplus(syns, point.answered).saturating_sub(self.bound).max(0);
        self.bound = (self.bound + unanswered).min(surplus(syns, to.answered));
        let unanswered = u64::try_from(unanswered).unwrap_or(u64::MAX);
        to.unanswered = from.unanswered.saturating_add(unanswered);
        self.mark(to);
        let completed = (to.completed - from.completed).max(point.completed - before.completed);
        Some(SettledInterval { from, to, unanswered, completed })
    }

    /// Notes what is known.
    fn mark(&mut self, known: Point) {
        self.known = known;
        for point in self.points.iter_mut().rev().take_while(|point| point.at >= known.at) {
            point.unanswered = known.unanswered;
        }
    }

    fn keep(&mut self, point: Point) {
        if self.points.len() >= 2 && point.at.saturating_sub(self.points[self.points.len() - 2].at) < LEAST_STEP {
            self.points.pop_back();
        }
        self.points.push_back(point);
        while self.points.len() > POINTS || point.at.saturating_sub(self.points[0].at) > SPAN {
            self.points.pop_front();
        }
    }

    /// Forgets what an idle subject's points repeat: hundreds of idle listeners cost next to nothing.
    pub fn shrink(&mut self) {
        while let [.., a, b, c] = *self.points.make_contiguous()
            && a.same(&b)
            && b.same(&c)
        {
            let last = self.points.len() - 1;
            self.points.swap(last, last - 1);
            self.points.pop_back();
        }
    }

    /// The last point.
    pub fn last(&self) -> &Point {
        self.points.back().unwrap_or(&self.known)
    }

    /// The last known point.
    pub const fn known(&self) -> &Point {
        &self.known
    }

    /// The counters at a moment between two points, if they did not change between them: points of an idle time are
    /// not kept.
    fn idle(&self, at: Duration) -> Option<Point> {
        let next = self.points.partition_point(|point| point.at <= at);
        let (before, after) = (self.points.get(next.checked_sub(1)?)?, self.points.get(next)?);
        before.same(after).then_some(Point { at, ..*before })
    }

    /// The first point at or after `from` and the last at or before `to`, if those are two.
    pub fn span(&self, from: Duration, to: Duration) -> Option<(Point, Point)> {
        let first = self.idle(from).or_else(|| self.points.iter().find(|point| point.at >= from).copied())?;
        let last = self.idle(to).or_else(|| self.points.iter().rfind(|point| point.at <= to).copied())?;
        (first.at < last.at).then_some((first, last))
    }
}

fn surplus(syns: u64, answered: u64) -> i128 {
    i128::from(syns) - i128::from(answered)
}

/// Events per second between two points.
pub fn rate((from, to): &(Point, Point), count: impl Fn(&Point) -> u64) -> f64 {
    per_second(to.at.saturating_sub(from.at), count(from), count(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_millis(500);

    fn point(step: u64, syns: u64, completed: u64) -> Point {
        Point { at: Duration::from_millis(step * 250), syns, completed, answered: completed, ..Point::default() }
    }

    /// Unanswered SYNs in all, of counters read every 250 ms.
    fn unanswered(counters: &[(u64, u64)]) -> u64 {
        let mut history = History::new(point(0, counters[0].0, counters[0].1));
        for (&(syns, completed), step) in counters.iter().zip(0..).skip(1) {
            history.push(point(step, syns, completed), LAG);
        }
        history.known().unanswered
    }

    #[test]
    fn syns_count_once_when_they_are_older_than_the_lag() {
        assert_eq!(unanswered(&[(0, 0), (100, 0), (200, 0)]), 0);
        assert_eq!(unanswered(&[(0, 0), (1 << 63, 1 << 63), (3 << 62, 3 << 62), (3 << 62, 3 << 62)]), 0, "no overflow");
        assert_eq!(unanswered(&[(0, 0), (100, 0), (200, 0), (200, 0)]), 100);
        assert_eq!(unanswered(&[(0, 0), (100, 0), (200, 0), (200, 0), (200, 0), (200, 0)]), 200);
    }

    #[test]
    fn late_handshakes_do_not_hide_what_comes_after_them() {
        let late = [(0, 0), (100, 0), (100, 0), (100, 0), (100, 100), (100, 100), (100, 100), (100, 100)];
        let flood = [(150, 100), (150, 100), (150, 100), (150, 100)];
        assert_eq!(unanswered(&late), 100);
        assert_eq!(unanswered(&[&late[..], &flood].concat()), 150);
    }

    #[test]
    fn memory_is_bounded_and_an_idle_history_is_short() {
        let mut history = History::new(point(0, 0, 0));
        for millisecond in 1..20_000 {
            history.push(Point { at: Duration::from_millis(millisecond), ..point(0, millisecond, 0) }, LAG);
        }
        assert!(history.points.len() <= POINTS, "{}", history.points.len());
        let mut history = History::new(point(0, 5, 5));
        for step in 1..100 {
            history.push(point(step, 5, 5), LAG);
            history.shrink();
        }
        assert!(history.points.len() <= 3, "{}", history.points.len());
    }

    /// An idle time of which hardly a point is kept is known all the same: what goes on before it ends in it.
    #[test]
    fn an_idle_time_is_known_though_its_points_are_not_kept() {
        let mut history = History::new(point(0, 0, 0));
        let mut known = 0;
        for step in 1..100 {
            let counted = step.min(4) * 25;
            known += u32::from(history.push(point(step, counted, counted), LAG).is_some());
            history.shrink();
        }
        assert!(known > 90, "{known} of 99 steps");
        let to = history.known().at;
        assert_eq!(to + LAG, Duration::from_millis(99 * 250));
        let (from, to) = history.span(to.saturating_sub(Duration::from_secs(2)), to).expect("two points");
        assert_eq!((from.at + Duration::from_secs(2), from.syns), (to.at, to.syns));
    }
}
