#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small figures")]

use proptest::prelude::*;

use super::*;
use crate::ports::{
    capacity::PortCapacity,
    settings::{PortSet, PortSettings, TwReuse},
    testing::{self, Chance, Load},
};

/// 1,000 ports.
fn available(ports: u16) -> PortCapacity {
    let settings = PortSettings { low: 20_000, high: 20_000 + ports - 1, ..PortSettings::default() };
    PortCapacity::new(&settings, &PortSet::new())
}

/// A look at a load.
fn look(history: &mut History, load: &Load, at: f64, available: &PortCapacity, reuse: TwReuse) -> Forecast {
    let tuple = load.at(at);
    let usage = Usage::new(&tuple, available, reuse);
    history.update(Duration::from_secs_f64(at), &usage, tuple.recent.into())
}

/// From half way on, each forecast is within a fifth of the truth: the time that what is left lasts at the rate that
/// the load was made with, which is 50/s. What chance does to it after the look nobody can know.
fn is_foreseen(load: &Load, interval: f64, chance: &mut Chance) -> Result<(), TestCaseError> {
    let full = load.reaches(1_000).unwrap();
    let (mut history, mut foretold) = (History::default(), 0);
    for at in chance.looks(interval, full) {
        let forecast = look(&mut history, load, at, &available(1_000), TwReuse::Off);
        let used = load.at(at).states.iter().sum::<u16>();
        let left = (1_000.0 - f64::from(used)) / 50.0;
        if used >= 500 && history.points.len() >= LEAST {
            let foreseen = forecast.full_in.unwrap_or(f64::INFINITY);
            prop_assert!((foreseen - left).abs() <= 0.2 * left, "{foreseen} s of {left} s at {at}");
            foretold += 1;
        }
    }
    prop_assert!(foretold > 0);
    Ok(())
}

fn flat(open: u16) -> Usage {
    Usage::new(&testing::tuple(open, 0), &available(4_000), TwReuse::Off)
}

/// Looks that saw these counts of open connections; returns how many of them foresaw the end within five minutes.
fn alarms(counts: &[u16], interval: f64) -> usize {
    let mut history = History::default();
    let mut at = 0.0;
    let mut look = |count: &u16| {
        at += interval;
        history.update(Duration::from_secs_f64(at), &flat(*count), 0).full_in.is_some_and(|seconds| seconds <= 300.0)
    };
    counts.iter().filter(|count| look(count)).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn growth_of_open_connections_and_of_time_wait_is_foreseen(
        seed: u64, open in prop::sample::select(vec![0.0, 10.0, 25.0, 40.0, 50.0]), interval in 0.5_f64..4.0,
    ) {
        let mut chance = Chance::new(seed);
        let mut arrivals = |rate| if rate > 0.0 { chance.arrivals(rate, 0.0, 60.0) } else { Vec::new() };
        let load = Load { open: arrivals(open), closed: arrivals(50.0 - open) };
        is_foreseen(&load, interval, &mut chance)?;
    }

    #[test]
    fn ports_that_come_back_as_fast_as_they_go_are_never_gone(seed: u64, interval in 1.0_f64..5.0) {
        let mut chance = Chance::new(seed);
        let load = Load { open: Vec::new(), closed: chance.arrivals(10.0, 0.0, 180.0) };
        let mut history = History::default();
        for at in chance.looks(interval, 180.0) {
            let forecast = look(&mut history, &load, at, &available(1_000), TwReuse::Off);
            prop_assert_eq!(forecast.full_in, None, "at {}", at);
        }
    }

    #[test]
    fn ports_that_are_taken_again_are_never_gone(seed: u64, interval in 1.0_f64..5.0) {
        let mut chance = Chance::new(seed);
        let load = Load { open: Vec::new(), closed: chance.arrivals(50.0, 0.0, 60.0) };
        let mut history = History::default();
        for at in chance.looks(interval, 60.0) {
            let forecast = look(&mut history, &load, at, &available(4_000), TwReuse::On);
            prop_assert!(forecast.full_in.is_none_or(|seconds| seconds > 300.0), "{:?} at {}", forecast, at);
        }
    }

    #[test]
    fn a_jump_is_no_growth(
        before in 0_usize..60, after in 1_usize..60, noise in 0_u16..4, interval in 1.0_f64..5.0, seed: u64,
    ) {
        let mut chance = Chance::new(seed);
        let mut near = |count: u16| count + (chance.share() * f64::from(noise + 1)) as u16;
        let counts: Vec<_> = (0..before).map(|_| 300).chain((0..after).map(|_| 2_300)).map(&mut near).collect();
        prop_assert_eq!(alarms(&counts, interval), 0);
    }

    #[test]
    fn a_jump_that_two_looks_see_is_soon_over(before in 0_usize..60, half in 300_u16..2_300, interval in 1.0_f64..5.0) {
        let counts = [vec![300; before], vec![half], vec![2_300; 60]].concat();
        prop_assert!(alarms(&counts, interval) <= 3, "{}", alarms(&counts, interval));
    }

    #[test]
    fn a_steady_growth_is_measured_whatever_the_looks(
        gaps in prop::collection::vec(0.5_f64..5.0, 4..80), rate in 1.0_f64..100.0, wrong in any::<prop::sample::Index>(),
    ) {
        let mut history = History::default();
        let (mut at, mut growth) = (0.0, None);
        let wrong = wrong.index(gaps.len());
        for (index, gap) in gaps.iter().enumerate() {
            at += gap;
            let open = if index == wrong { 0 } else { (rate * at) as u32 };
            let usage = Usage { in_use: open, time_wait: 0, reusable: 0, capacity: 65_536 };
            growth = history.update(Duration::from_secs_f64(at), &usage, 0).growth;
        }
        prop_assert!(history.points.len() <= MOST);
        if gaps.len() >= 12 {
            let growth = growth.unwrap();
            prop_assert!((growth - rate).abs() <= 0.15 * rate + 0.6, "{growth} of {rate}");
        }
    }

    #[test]
    fn whatever_is_seen_the_forecast_is_a_time_within_the_hour(
        looks in prop::collection::vec((0.0_f64..20.0, 0_u32..1_000, 0_u32..1_000, 0_u32..1_000, 0_u32..2_000), 1..60),
    ) {
        let mut history = History::default();
        let mut at = 0.0;
        for (gap, open, time_wait, reusable, recent) in looks {
            at += gap;
            let usage = Usage { in_use: open + time_wait, time_wait, reusable: reusable.min(time_wait), capacity: 2_000 };
            let forecast = history.update(Duration::from_secs_f64(at), &usage, recent);
            prop_assert!(forecast.growth.is_none_or(f64::is_finite));
            prop_assert!(forecast.full_in.is_none_or(|seconds| (0.0..=HORIZON).contains(&seconds)));
            prop_assert!(history.points.len() <= MOST);
        }
    }
}

#[test]
fn growth_needs_three_looks_and_two_seconds() {
    let growth = |times: &[f64]| {
        let mut history = History::default();
        let look = |at: &f64| history.update(Duration::from_secs_f64(*at), &flat((at * 10.0) as u16), 0).growth;
        times.iter().map(look).last().unwrap()
    };
    assert_eq!([growth(&[1.0, 5.0]), growth(&[1.0, 2.0, 2.9]), growth(&[1.0, 5.0, 5.0])], [None; 3]);
    assert_eq!(growth(&[1.0, 2.0, 3.0]), Some(10.0));
}

#[test]
fn what_was_more_than_a_minute_ago_is_forgotten() {
    let mut history = History::default();
    let mut growth = None;
    for second in 0_u16..300 {
        let open = if second < 150 { second * 10 } else { 1_500 };
        growth = history.update(Duration::from_secs(second.into()), &flat(open), 0).growth;
    }
    assert_eq!(growth, Some(0.0));
    assert!(history.points.front().unwrap().at >= Duration::from_secs(239));
}

#[test]
fn a_tuple_without_a_free_port_is_full_now() {
    let mut history = History::default();
    assert_eq!(history.update(Duration::ZERO, &flat(4_000), 0), Forecast { growth: None, full_in: Some(0.0) });
}

#[test]
fn a_growth_that_ends_is_no_danger_for_long() {
    let mut counts: Vec<_> = (0..60).map(|second| second * 40).collect();
    assert!(alarms(&counts, 1.0) > 30);
    let before = alarms(&counts, 1.0);
    counts.extend([2_400; 60]);
    assert!(alarms(&counts, 1.0) - before <= 16, "{}", alarms(&counts, 1.0) - before);
}

#[test]
fn open_connections_fill_what_the_plateau_leaves() {
    // 500 free; TIME_WAIT grows by 10/s for 20 s, others by 5/s: 300 after 20 s, the other 200 in 40 s.
    let held = Held { now: 100.0, growth: 10.0, plateau: 300.0 };
    assert_eq!(full_in(500.0, 5.0, &held), Some(60.0));
    assert_eq!(full_in(500.0, 0.0, &held), None);
    assert_eq!(full_in(150.0, 0.0, &held), Some(15.0));
    // It falls by 10/s for 10 s before the others have it for themselves.
    let falls = Held { now: 300.0, growth: -10.0, plateau: 200.0 };
    assert_eq!(full_in(100.0, 5.0, &falls), Some(40.0));
    // It would grow, but fewer enter than are there.
    assert_eq!(full_in(100.0, 0.0, &Held { now: 300.0, growth: 10.0, plateau: 200.0 }), None);
}
