//! What is usual of a subject.

use super::settings::{BACKGROUND, BLOCK, USUAL};

/// An exponentially decayed mean of a rate. While it is younger than its time constant it is a plain mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ewma {
    value: f64,
    age: f64,
}

impl Ewma {
    /// Adds a rate, observed for `seconds`.
    pub fn add(&mut self, rate: f64, seconds: f64, constant: f64) {
        if seconds > 0.0 {
            let weight = (-(-seconds / constant).exp_m1()).max(seconds / (self.age + seconds));
            self.value += (rate - self.value) * weight;
            self.age = (self.age + seconds).min(constant);
        }
    }

    /// The mean; zero before the first rate.
    pub const fn get(&self) -> f64 {
        self.value
    }
}

/// Baseline rates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baseline {
    /// SYNs per second.
    pub syns: Ewma,
    /// Completions per second. Learnt always, so that what is normal never depends on what was unanswered.
    pub completed: Ewma,
    /// Unanswered SYNs per second.
    unanswered: Ewma,
    /// Unanswered SYNs of this block, and its seconds.
    block: (f64, f64),
    /// The rate of the block before.
    held: Option<f64>,
}

impl Baseline {
    /// Adds rates, observed for `seconds`. Nothing is learnt under suspicion: a flood is not usual.
    pub fn learn(&mut self, syns: f64, unanswered: f64, seconds: f64, suspicious: bool) {
        if suspicious {
            (self.block, self.held) = ((0.0, 0.0), None);
            return;
        }
        self.syns.add(syns, seconds, USUAL);
        self.block = (self.block.0 + unanswered * seconds, self.block.1 + seconds);
        if self.block.1 >= BLOCK {
            let rate = self.block.0 / self.block.1;
            if let Some(held) = self.held.replace(rate) {
                self.unanswered.add(held, self.block.1, BACKGROUND);
            }
            self.block = (0.0, 0.0);
        }
    }

    /// Unanswered SYNs per second that are usual.
    pub const fn unanswered(&self) -> f64 {
        self.unanswered.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6, "{value}, not {expected}");
    }

    #[test]
    fn an_average_is_plain_at_first_and_decays_later() {
        let mut average = Ewma::default();
        average.add(10.0, 1.0, 60.0);
        average.add(20.0, 1.0, 60.0);
        near(average.get(), 15.0);
        for _ in 0..6_000 {
            average.add(20.0, 1.0, 60.0);
        }
        average.add(0.0, 60.0, 60.0);
        near(average.get(), 20.0 / std::f64::consts::E);
    }

    #[test]
    fn what_leads_to_suspicion_is_not_learnt() {
        let mut usual = Baseline::default();
        for _ in 0..70 {
            usual.learn(20.0, 20.0, 1.0, false);
        }
        near(usual.unanswered(), 20.0);
        for _ in 0..14 {
            usual.learn(500.0, 500.0, 1.0, false);
        }
        usual.learn(500.0, 500.0, 1.0, true);
        near(usual.unanswered(), 20.0);
    }
}
