//! The statistic of one subject: how much more goes unanswered than is usual.
//!
//! A non-parametric CUSUM (H. Wang, D. Zhang, K. Shin: Detecting SYN flooding attacks, INFOCOM 2002; SYN-dog, ICDCS
//! 2002) of unanswered SYNs, less what is usual, over the subject's own average of completions. It needs no model of
//! the traffic and adds up what is small and lasting as well as what is large.

use std::{collections::VecDeque, time::Duration};

use super::{
    baseline::Baseline,
    history::{History, Point, SettledInterval},
    settings::{GAP, LEAST_NORM, MOST_STATISTIC, SUSPICION, Settings, USUAL, WINDOW},
};
use crate::estimators::rate::float;

/// The excess lasts if most of this many intervals have it.
const RECENT: usize = 4;
/// This many of them must have it: a short burst that an observation cuts in two is in two at most.
const LASTING: usize = 3;
/// Or two, when they are this long together, seconds: observations come once a second on a quiet host.
const LONG_SECONDS: f64 = 1.2;

/// Time since the statistic left zero.
#[derive(Clone, Copy, Debug)]
pub struct Excursion {
    /// The start of its first interval: still quiet.
    pub before: Point,
    /// The end of its first interval.
    pub first: Point,
    /// SYNs per second that were usual then.
    pub usual_syns: f64,
    /// Completions per second that were usual then.
    pub usual_completed: f64,
    /// When the statistic first spoke for an alarm.
    pub ready: Option<Duration>,
}

impl Excursion {
    /// One that begins at a point.
    pub const fn from_point(point: Point, usual_syns: f64, usual_completed: f64, ready: Option<Duration>) -> Self {
        Self { before: point, first: point, usual_syns, usual_completed, ready }
    }
}

/// What a step brought.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub interval: SettledInterval,
    /// Whether enough of it was unanswered for a flood to go on.
    pub significant: bool,
    /// Whether anything in it was, beyond the usual loss: enough for a slow flood to go on.
    pub some: bool,
}

/// The statistic and what it rests on.
#[derive(Debug)]
pub struct Cusum {
    settings: Settings,
    /// Recent counters.
    pub history: History,
    /// Time that a handshake is allowed now.
    lag: Duration,
    /// What is usual.
    pub baseline: Baseline,
    /// Seconds of the subject's usual completions (at least 100/s) that went unanswered.
    pub statistic: f64,
    excursion: Option<Excursion>,
    /// Of the last known intervals: length in seconds, and whether it had an excess.
    recent: VecDeque<(f64, bool)>,
}

impl Cusum {
    /// A cusum of a subject that is first seen now.
    pub fn new(settings: Settings, point: Point) -> Self {
        Self {
            settings,
            history: History::new(point),
            baseline: Baseline::default(),
            lag: Duration::ZERO,
            statistic: 0.0,
            excursion: None,
            recent: VecDeque::new(),
        }
    }

    /// Adds counters, and returns the interval that has become known by them, if any; none when they began again or
    /// come after a gap.
    pub fn step(&mut self, point: Point, lag: Duration) -> Option<Step> {
        let last = *self.history.last();
        if self.breaks(&point) != (false, false) {
            self.rebase(point);
            return None;
        }
        self.learn_completions(&last, &point);
        self.lag = lag;
        let interval = self.history.push(point, lag)?;
        let excess = self.excess(&interval);
        self.accumulate(&interval, excess);
        self.learn(&interval);
        if self.excursion.is_none() {
            self.history.shrink();
        }
        Some(Step { interval, significant: self.significant(&interval), some: self.some(&interval) })
    }

    /// Whether `point` comes after a gap, and whether its counters began again.
    pub fn breaks(&self, point: &Point) -> (bool, bool) {
        (point.at.saturating_sub(self.history.last().at) > GAP, !self.history.continues(point))
    }

    /// Starts again with counters that began again.
    pub fn rebase(&mut self, point: Point) {
        self.history.rebase(point);
        self.recent.clear();
        self.end();
    }

    /// Forgets the excursion: the incident it led to is over.
    pub fn end(&mut self) {
        self.statistic = 0.0;
        self.excursion = None;
    }

    fn learn_completions(&mut self, last: &Point, point: &Point) {
        let seconds = point.at.saturating_sub(last.at).as_secs_f64();
        self.baseline.completed.add(float(point.completed - last.completed) / seconds, seconds, USUAL);
    }

    /// Unanswered SYNs beyond what is harmless; below zero when there are fewer.
    fn excess(&self, interval: &SettledInterval) -> f64 {
        let usual = 2.0 * self.background() + self.settings.floor;
        float(interval.unanswered) - self.settings.share * float(interval.completed) - usual * interval.seconds()
    }

    /// The usual rate of unanswered SYNs, as far as it is taken for granted: a flood that rises slowly enough is
    /// learnt, and must not raise the margin beyond what health checks and strays make.
    fn background(&self) -> f64 {
        let most = self.settings.floor + self.settings.share * self.baseline.completed.get();
        self.baseline.unanswered().min(most)
    }

    /// Whether a flood goes on: half of the margin, so that what hardly was an alarm does not end and begin again. The
    /// interval itself must show it: clients that are answered early hide some unanswered SYNs at first, which are
    /// counted later.
    fn significant(&self, interval: &SettledInterval) -> bool {
        let usual = 2.0 * self.background() + self.settings.floor / 2.0;
        let completed = self.settings.share / 2.0 * float(interval.completed);
        float(interval.unanswered.min(interval.surplus())) > completed + usual * interval.seconds()
    }

    fn some(&self, interval: &SettledInterval) -> bool {
        float(interval.unanswered) > self.settings.share * float(interval.completed)
    }

    /// Unanswered SYNs for each completion that are harmless.
    pub const fn share(&self) -> f64 {
        self.settings.share
    }

    fn accumulate(&mut self, interval: &SettledInterval, excess: f64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((interval.seconds(), excess > 0.0));
        let norm = self.baseline.completed.get().max(LEAST_NORM);
        self.statistic = (self.statistic + excess / norm).clamp(0.0, MOST_STATISTIC * self.threshold());
        if self.statistic <= 0.0 {
            self.excursion = None;
            return;
        }
        let lasting = self.statistic > self.threshold() && lasts(&self.recent);
        let excursion = self.excursion.get_or_insert(Excursion {
            before: interval.from,
            first: interval.to,
            usual_syns: self.baseline.syns.get(),
            usual_completed: self.baseline.completed.get(),
            ready: None,
        });
        excursion.ready = if lasting { excursion.ready.or(Some(self.history.last().at)) } else { None };
    }

    fn learn(&mut self, interval: &SettledInterval) {
        let seconds = interval.seconds();
        let syns = float(interval.to.syns - interval.from.syns) / seconds;
        let suspicious = self.suspicious();
        self.baseline.learn(syns, float(interval.unanswered) / seconds, seconds, suspicious);
    }

    /// Threshold of the statistic. Clients that are answered before the lag is over hide unanswered SYNs, as many as
    /// come in the lag at most; when they stop these come to light at once, and are no flood.
    fn threshold(&self) -> f64 {
        self.settings.alarm * (2.0 * self.lag.as_secs_f64()).max(1.0)
    }

    /// Whether it is worth a closer look.
    pub fn suspicious(&self) -> bool {
        self.statistic > SUSPICION * self.threshold()
    }

    /// The known part of the excursion, as far as rates are over it: its last two seconds.
    pub fn window(&self) -> (Duration, Duration) {
        let to = self.history.known().at;
        let from = self.excursion.map_or(Duration::ZERO, |excursion| excursion.first.at);
        (from.max(to.saturating_sub(WINDOW)), to)
    }

    /// The excursion, if the statistic is not zero.
    pub const fn excursion(&self) -> Option<&Excursion> {
        self.excursion.as_ref()
    }

    /// Since when it speaks for an alarm.
    pub fn ready(&self) -> Option<Duration> {
        self.excursion.and_then(|excursion| excursion.ready)
    }
}

fn lasts(recent: &VecDeque<(f64, bool)>) -> bool {
    let (count, seconds) =
        recent.iter().filter(|(_, excess)| *excess).fold((0, 0.0), |(n, sum), (length, _)| (n + 1, sum + length));
    count >= LASTING || (count >= 2 && seconds >= LONG_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syn::settings::{Sensitivity, UNKNOWN_LAG};

    /// A cusum after counters read every 250 ms, and the step at which it first spoke for an alarm.
    fn run(counters: impl Iterator<Item = (u64, u64)>) -> (Cusum, Option<u64>) {
        let point = |step: u64, (syns, completed)| Point {
            at: Duration::from_millis(step * 250),
            syns,
            completed,
            answered: completed,
            ..Point::default()
        };
        let mut cusum = Cusum::new(Settings::listener(Sensitivity::Medium), point(0, (0, 0)));
        let mut alarm = None;
        for (counters, step) in counters.zip(1..) {
            cusum.step(point(step, counters), UNKNOWN_LAG);
            alarm = alarm.or(cusum.ready().map(|_| step));
        }
        (cusum, alarm)
    }

    #[test]
    fn a_flood_is_an_alarm_after_the_lag_and_three_steps() {
        let (cusum, alarm) = run((1..40).map(|step: u64| (step.saturating_sub(20) * 125, 0)));
        assert_eq!(alarm, Some(20 + 2 + 3));
        let excursion = cusum.excursion().unwrap();
        assert_eq!((excursion.before.at.as_millis(), excursion.first.at.as_millis()), (5_000, 5_250));
        assert!(cusum.statistic > 1.0);
    }

    /// A flood that stays just below what is usual at each moment, and so raises what is usual, must not go on for
    /// ever.
    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of SYNs")]
    fn a_flood_does_not_teach_itself() {
        let mut cusum = Cusum::new(Settings::listener(Sensitivity::Medium), Point::default());
        let (mut sent, mut highest) = (0.0, 0.0_f64);
        for step in 1..14_400_u32 {
            let rate = 0.98 * (2.0 * cusum.baseline.unanswered() + 30.0);
            highest = highest.max(rate);
            sent += rate / 4.0;
            let at = Duration::from_millis(250) * step;
            let _known = cusum.step(Point { at, syns: sent as u64, ..Point::default() }, Duration::from_millis(250));
            if cusum.ready().is_some() {
                break;
            }
        }
        assert!(cusum.ready().is_some() && highest < 200.0, "{highest} SYNs a second were never called");
    }
}
