//! How the ports of a tuple grow, and when there will be none left.

use std::{collections::VecDeque, time::Duration};

use tracker_common::limits;

/// How long a socket is in `TIME_WAIT` (`TCP_TIMEWAIT_LEN`, `include/net/tcp.h`).
pub const TIME_WAIT: Duration = Duration::from_secs(limits::TIME_WAIT_SECONDS as u64);
/// [`super::observation::TupleObservation::recent`] counts those that entered it in this time.
pub const RECENT: Duration = Duration::from_secs(limits::RECENT_SECONDS as u64);
/// Growth is measured over this time.
const WINDOW: Duration = Duration::from_mins(1);
/// Looks that are remembered, spread over that time.
const MAX_POINTS: usize = 16;
/// Growth needs this many looks,
const MIN_POINTS: usize = 3;
/// and this much time between the first and the last of them: below that it is chance.
const LEAST_TIME: Duration = Duration::from_secs(2);
/// Growth goes on if recently there was this part of it.
const GOES_ON: f64 = 0.5;
/// Seconds. What is further away is not forecast: a minute says nothing of the time after that.
const HORIZON: f64 = 3_600.0;

/// How ports stand at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Ports in use, those in `TIME_WAIT` included.
    pub in_use: u32,
    /// Those in `TIME_WAIT`.
    pub time_wait: u32,
    /// Those of them that a new connection may take.
    pub reusable: u32,
    /// Ports to choose from, those in use included.
    pub capacity: u32,
    /// Ports that entered `TIME_WAIT` in the last [`RECENT`].
    pub recent: u32,
}

impl Look {
    /// At ports that know no `TIME_WAIT`.
    pub(super) const fn open(in_use: u32, capacity: u32) -> Self {
        Self { in_use, time_wait: 0, reusable: 0, capacity, recent: 0 }
    }
}

/// What one look saw.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: Duration,
    /// Ports that are not in `TIME_WAIT`.
    open: f64,
    /// Ports in `TIME_WAIT` that no new connection can take.
    held: f64,
}

/// What comes of the last looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Forecast {
    /// Growth of the ports that are used, per second.
    pub growth: Option<f64>,
    /// Time until none is left, seconds.
    pub full_in: Option<f64>,
}

/// The last looks at a tuple.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
}

impl History {
    /// Adds a look, unless it is not later than the last, and returns what follows from it.
    pub(super) fn update(&mut self, at: Duration, look: &Look) -> Forecast {
        let open = look.in_use - look.time_wait;
        let now = Point { at, open: open.into(), held: (look.time_wait - look.reusable).into() };
        if self.points.back().is_none_or(|last| last.at < at) {
            self.push(now);
        }
        let growths = Growths::new(self.points.make_contiguous());
        let free = f64::from(look.capacity) - now.open - now.held;
        let full_in = if free <= 0.0 { Some(0.0) } else { growths.and_then(|it| it.full_in(free, &now, look)) };
        let growth = growths.map(|growths| growths.all.slope);
        Forecast { growth, full_in: full_in.filter(|seconds| *seconds <= HORIZON) }
    }

    /// When the last look was.
    pub(super) fn seen_at(&self) -> Option<Duration> {
        self.points.back().map(|point| point.at)
    }

    /// Remembers a look. When there are too many, of those between the first and the last the one whose neighbours are
    /// closest together goes: what is left stays spread over the whole time.
    fn push(&mut self, point: Point) {
        self.points.retain(|old| point.at.saturating_sub(old.at) <= WINDOW);
        if self.points.len() >= MAX_POINTS {
            let gap = |index: &usize| self.points[index + 1].at.saturating_sub(self.points[index - 1].at);
            let closest = (1..self.points.len() - 1).min_by_key(gap);
            closest.map(|index| self.points.remove(index));
        }
        self.points.push_back(point);
    }
}

/// How open ports, those in `TIME_WAIT`, and both together grow.
#[derive(Clone, Copy, Debug)]
struct Growths {
    all: Growth,
    open: Growth,
    held: Growth,
}

impl Growths {
    /// Nothing before there are enough looks.
    fn new(points: &[Point]) -> Option<Self> {
        let (first, last) = (points.first()?, points.last()?);
        let is_enough = points.len() >= MIN_POINTS && last.at.saturating_sub(first.at) >= LEAST_TIME;
        is_enough.then(|| Self {
            all: Growth::new(points, |point| point.open + point.held),
            open: Growth::new(points, |point| point.open),
            held: Growth::new(points, |point| point.held),
        })
    }

    /// Time until no port is left of those that are `free` now, seconds.
    ///
    /// The ports in `TIME_WAIT` settle where each leaves 60 s after it entered: `a` a second come to `60 * a`. Only the
    /// share of them counts that cannot be taken again now.
    fn full_in(&self, free: f64, now: &Point, look: &Look) -> Option<f64> {
        let slope = |growth: Growth| if growth.goes_on || self.all.goes_on { growth.slope } else { 0.0 };
        let held = if look.time_wait == 0 { 1.0 } else { now.held / f64::from(look.time_wait) };
        let plateau = f64::from(look.recent) / RECENT.as_secs_f64() * TIME_WAIT.as_secs_f64() * held;
        full_in(free, slope(self.open), slope(self.held), plateau - now.held)
    }
}

/// A growth, ports per second.
#[derive(Clone, Copy, Debug)]
struct Growth {
    /// The median of the growth between any two looks: three in ten of them may be far off and it hardly moves (Sen,
    /// "Estimates of the regression coefficient based on Kendall's tau", 1968).
    slope: f64,
    /// Whether it goes on.
    goes_on: bool,
}

impl Growth {
    fn new(points: &[Point], value: impl Fn(&Point) -> f64) -> Self {
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, from) in points.iter().enumerate() {
            slopes.extend(points[index + 1..].iter().map(|to| (value(to) - value(from)) / seconds(from, to)));
        }
        let middle = slopes.len() / 2;
        let is_even = slopes.len().is_multiple_of(2);
        let (below, upper, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
        let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| is_even);
        let slope = lower.map_or(*upper, |lower| f64::midpoint(lower, *upper));
        Self { slope, goes_on: slope <= 0.0 || goes_on(points, slope, value) }
    }
}

/// Whether growth goes on: in the second half of the time there was a good part of it even without the largest of its
/// steps, and in the last quarter some. A jump is one step or two, and so no growth: it does not continue.
fn goes_on(points: &[Point], slope: f64, value: impl Fn(&Point) -> f64) -> bool {
    let half = steps(points, 2, &value);
    let largest = half.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    let grew = |steps: &[(f64, f64)], without: (f64, f64), part: f64| {
        let grown: f64 = steps.iter().map(|step| step.0).sum();
        let time: f64 = steps.iter().map(|step| step.1).sum();
        grown - without.0 >= part * slope * (time - without.1)
    };
    grew(&half, largest, GOES_ON) && grew(&steps(points, 4, &value), (0.0, 0.0), GOES_ON / 2.0)
}

/// The steps in the last of `parts` equal parts of the time, between three looks at least: growth and seconds.
fn steps(points: &[Point], parts: u32, value: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let start = last.at.saturating_sub(last.at.saturating_sub(first.at) / parts);
    let from = points.partition_point(|point| point.at < start).min(points.len().saturating_sub(MIN_POINTS));
    let last = &points[from..];
    last.windows(2).map(|pair| (value(&pair[1]) - value(&pair[0]), seconds(&pair[0], &pair[1]))).collect()
}

/// Time until `free` ports are gone, seconds. Those in `TIME_WAIT` move at the speed they have by `way`, to where they
/// settle, and stay there; the others grow on.
fn full_in(free: f64, open_growth: f64, held_growth: f64, way: f64) -> Option<f64> {
    let moves = way * held_growth > 0.0;
    let (until, held_growth) = if moves { (way / held_growth, held_growth) } else { (0.0, 0.0) };
    let growth = open_growth + held_growth;
    if growth > 0.0 && free / growth <= until {
        return Some(free / growth);
    }
    let left = free - growth * until;
    (open_growth > 0.0).then(|| until + left / open_growth)
}

fn seconds(from: &Point, to: &Point) -> f64 {
    to.at.saturating_sub(from.at).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_fill_what_the_plateau_leaves() {
        let cases = [
            // TIME_WAIT grows by 10/s for 20 s, others by 5/s: 300 after 20 s, the other 200 in 40 s.
            (500.0, 5.0, (10.0, 200.0), Some(60.0)),
            (500.0, 0.0, (10.0, 200.0), None),
            (150.0, 0.0, (10.0, 200.0), Some(15.0)),
            // It falls by 10/s for 10 s before the others have it for themselves.
            (100.0, 5.0, (-10.0, -100.0), Some(40.0)),
            // It would grow, but fewer enter than are there.
            (100.0, 0.0, (10.0, -100.0), None),
        ];
        for (free, open_growth, (held_growth, way), expected) in cases {
            assert_eq!(full_in(free, open_growth, held_growth, way), expected, "{free} free");
        }
    }

    #[test]
    fn memory_is_bounded_and_spread_over_the_minute() {
        let mut history = History::default();
        for look in 0..1_000 {
            history.push(Point { at: Duration::from_millis(look * 100), open: 1.0, held: 0.0 });
        }
        let points = history.points.make_contiguous();
        assert!(
            points.len() == MAX_POINTS && points[MAX_POINTS - 1].at.saturating_sub(points[0].at) > WINDOW / 2,
            "{points:?}"
        );
    }
}
