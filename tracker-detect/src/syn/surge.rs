//! A surge: many more SYNs than usual, and answered. Legitimate; a verdict and never an alarm.

use super::{
    cusum::{Cusum, Step},
    history::rate,
    settings::WINDOW,
};

/// This many times the usual rate begin a surge,
const BEGINS: f64 = 3.0;
/// and fewer than this end it.
const ENDS: f64 = 2.0;
/// SYNs per second above the usual that it takes at least.
const MIN_RATE: f64 = 100.0;

/// Whether a listener has a surge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surge {
    on: bool,
}

impl Surge {
    /// Adds a step, if there was one, and returns whether there is a surge. `alarm` says that an incident goes on.
    pub fn step(&mut self, cusum: &Cusum, step: Option<&Step>, alarm: bool) -> bool {
        let Some(step) = step else { return self.on && !alarm };
        let to = step.interval.to.at;
        if let Some(span) = cusum.history.span(to.saturating_sub(WINDOW), to) {
            let (rate, usual) = (rate(&span, |point| point.syns), cusum.baseline.syns.get());
            let (times, least) = if self.on { (ENDS, MIN_RATE / 2.0) } else { (BEGINS, MIN_RATE) };
            self.on = rate >= times * usual && rate >= usual + least;
        }
        self.on &= !alarm && !cusum.suspicious();
        self.on
    }
}
