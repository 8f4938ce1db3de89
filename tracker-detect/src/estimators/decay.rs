//! How active each port was recently, from readings of a counter for each.

use std::{cmp::Ordering, time::Duration};

use tracker_model::{api::NoListener, counters::PortSyns};

const PORTS: usize = 65_536;
/// An event this long ago weighs a third (1/e) of one now.
pub const TIME_CONSTANT: Duration = Duration::from_mins(1);
/// A port below this rate, one SYN in a quarter of an hour, is quiet: its rate is zero.
const QUIET: f32 = 0.001;

/// The counts of all ports at the last reading, and the rate of each as an exponentially decayed mean.
#[derive(Debug)]
pub struct PortRates {
    before: Box<[u64]>,
    rates: Box<[f32]>,
    at: Option<Duration>,
}

impl Default for PortRates {
    fn default() -> Self {
        // Zeroed memory of this size costs nothing until a port is written.
        Self { before: vec![0; PORTS].into(), rates: vec![0.0; PORTS].into(), at: None }
    }
}

impl PortRates {
    /// Takes in a reading of all ports, in any order, and returns the `most` active ones: by rate, then by count. `at`
    /// is a time that does not go back. While no time has passed, as at the first reading, rates stay; the next reading
    /// sees the rest.
    pub fn update(&mut self, at: Duration, counts: impl Iterator<Item = (u16, u64)>, most: usize) -> NoListener {
        let step = Step::new(at.saturating_sub(*self.at.get_or_insert(at)));
        self.at = self.at.max(Some(at));
        let mut seen = NoListener::default();
        for (port, syns) in counts.filter(|(_, syns)| *syns != 0) {
            let entry = PortSyns { port, syns, syn_rate: self.rate(port, syns, step) };
            seen.ports += 1;
            seen.syn_rate += entry.syn_rate;
            keep(&mut seen.top_ports, entry, most);
        }
        seen
    }

    /// The rate of a port that has now received `syns`.
    fn rate(&mut self, port: u16, syns: u64, step: Option<Step>) -> f64 {
        let (before, rate) = (&mut self.before[usize::from(port)], &mut self.rates[usize::from(port)]);
        if let Some(step) = step
            && (*before != syns || *rate > 0.0)
        {
            *rate = step.apply(*rate, syns.saturating_sub(*before));
            *before = syns;
        }
        (*rate).into()
    }
}

/// The time between two readings.
#[derive(Clone, Copy)]
struct Step {
    /// What is left of an old rate.
    kept: f64,
    /// What an event adds to a rate.
    event: f64,
}

impl Step {
    fn new(elapsed: Duration) -> Option<Self> {
        let new = -(-elapsed.div_duration_f64(TIME_CONSTANT)).exp_m1();
        (new > 0.0).then(|| Self { kept: 1.0 - new, event: new / elapsed.as_secs_f64() })
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate is rounded anyway")]
    fn apply(self, rate: f32, events: u64) -> f32 {
        let rate = (f64::from(rate) * self.kept + events as f64 * self.event) as f32;
        if rate < QUIET { 0.0 } else { rate }
    }
}

/// Puts `entry` in its place among the `most` first.
fn keep(top: &mut Vec<PortSyns>, entry: PortSyns, most: usize) {
    let place = top.partition_point(|other| order(other, &entry).is_le());
    if place < most {
        top.truncate(most - 1);
        top.insert(place, entry);
    }
}

/// The more active first.
fn order(a: &PortSyns, b: &PortSyns) -> Ordering {
    b.syn_rate.total_cmp(&a.syn_rate).then(b.syns.cmp(&a.syns)).then(a.port.cmp(&b.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(rates: &mut PortRates, at: u64, counts: &[(u16, u64)]) -> NoListener {
        rates.update(Duration::from_secs(at), counts.iter().copied(), 3)
    }

    /// One that was read at second 0, when nothing had come.
    fn rates() -> PortRates {
        let mut rates = PortRates::default();
        update(&mut rates, 0, &[]);
        rates
    }

    fn ports(seen: &NoListener) -> Vec<u16> {
        seen.top_ports.iter().map(|entry| entry.port).collect()
    }

    #[test]
    fn a_steady_port_has_its_rate_however_often_it_is_read() {
        for interval in [1, 15, 60] {
            let mut rates = rates();
            let read = (interval..=600).step_by(usize::try_from(interval).unwrap());
            let rate = read.map(|at| update(&mut rates, at, &[(443, at * 5)]).syn_rate).last().unwrap();
            assert!((rate - 5.0).abs() < 0.01, "{rate}");
        }
    }

    #[test]
    fn a_burst_fades_with_the_time_constant_and_ends_at_zero() {
        let mut rates = rates();
        let [burst, later, late, quiet] = [1, 61, 541, 661].map(|at| update(&mut rates, at, &[(443, 1_200)]).syn_rate);
        assert!((burst - 20.0).abs() < 0.2, "{burst}: 1,200 in a minute");
        assert!((later / burst - (-1.0_f64).exp()).abs() < 1e-5, "{later}");
        assert!(late > 0.0 && quiet.abs() < f64::EPSILON, "{late}, {quiet}");
    }

    #[test]
    fn a_port_that_begins_now_outranks_those_with_more_in_the_past() {
        let mut rates = rates();
        update(&mut rates, 1, &[(1, 9_000), (2, 8_000), (3, 7_000), (4, 6_000)]);
        let counts = [(1, 9_000), (2, 8_000), (3, 7_000), (4, 6_000), (443, 50)];
        let seen = update(&mut rates, 601, &counts);
        assert_eq!((ports(&seen), seen.ports, seen.top_ports[0].syns), (vec![443, 1, 2], 5, 50));
        let seen = update(&mut rates, 3_600, &counts);
        assert_eq!((ports(&seen), seen.syn_rate), (vec![1, 2, 3], 0.0), "all quiet: by count");
    }

    #[test]
    fn readings_at_one_moment_or_with_time_going_back_lose_nothing() {
        let mut rates = PortRates::default();
        let first = update(&mut rates, 10, &[(22, 60)]);
        assert_eq!(first.top_ports, [PortSyns { port: 22, syns: 60, syn_rate: 0.0 }], "the count at once");
        for at in [10, 9, 10] {
            assert!(update(&mut rates, at, &[(22, 60)]).syn_rate.abs() < f64::EPSILON);
        }
        assert!((update(&mut rates, 11, &[(22, 60)]).syn_rate - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_scan_of_all_ports_keeps_the_list_short() {
        let seen = rates().update(Duration::from_secs(1), (0..=u16::MAX).map(|port| (port, 1)), 10);
        assert_eq!((ports(&seen), seen.ports), ((0..10).collect(), 65_536));
        assert!((seen.syn_rate - 65_536.0 / 60.0).abs() < 10.0, "{}", seen.syn_rate);
    }
}
