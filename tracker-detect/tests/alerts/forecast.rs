//! How ports grow, and when there will be none left.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small figures")]

use proptest::prelude::*;
use tracker_detect::ports::{PortModel, PortSettings, PortsObservation, TupleObservation, TwReuse};
use tracker_model::api::PortUse;

use crate::support::{Chance, Load, seen, tuple};

/// The row of a tuple after a look, with a range of `ports` ports.
fn look(model: &mut PortModel, tuple: TupleObservation, at: f64, ports: u32, tw_reuse: TwReuse) -> PortUse {
    let high = u16::try_from(ports - 1).unwrap();
    let settings = PortSettings { low: 0, high, tw_reuse, ..PortSettings::default() };
    model.update(&PortsObservation { settings, ..seen(at, vec![tuple]) });
    model.ports().ports[0].clone()
}

/// From half way on, each forecast is within a fifth of the truth: the time that what is left lasts at the rate that
/// the load was made with, which is 50/s. What chance does to it after the look nobody can know.
fn is_foreseen(load: &Load, interval: f64, chance: &mut Chance) -> Result<(), TestCaseError> {
    let full = load.reaches(1_000).unwrap();
    let (mut model, mut foretold) = (PortModel::default(), 0);
    for (index, at) in chance.looks(interval, full).into_iter().enumerate() {
        let row = look(&mut model, load.at(at), at, 1_000, TwReuse::Off);
        let left = (1_000.0 - f64::from(row.in_use)) / 50.0;
        if row.in_use >= 500 && index >= 2 {
            let foreseen = row.full_in_seconds.unwrap_or(f64::INFINITY);
            prop_assert!((foreseen - left).abs() <= 0.2 * left, "{foreseen} s of {left} s at {at}");
            foretold += 1;
        }
    }
    prop_assert!(foretold > 0);
    Ok(())
}

/// Looks that saw these counts of open connections, of 4,000 ports; returns how many of them foresaw the end within
/// five minutes.
fn alarms(counts: &[u16], interval: f64) -> usize {
    let mut model = PortModel::default();
    let mut at = 0.0;
    let mut foresees = |count: &u16| {
        at += interval;
        let row = look(&mut model, tuple(*count, 0), at, 4_000, TwReuse::Off);
        row.full_in_seconds.is_some_and(|seconds| seconds <= 300.0)
    };
    counts.iter().filter(|count| foresees(count)).count()
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
        // Ten a second leave TIME_WAIT again, of fifty most are taken again.
        for (rate, seconds, ports, reuse) in [(10.0, 180.0, 1_000, TwReuse::Off), (50.0, 60.0, 4_000, TwReuse::On)] {
            let mut chance = Chance::new(seed);
            let load = Load { open: Vec::new(), closed: chance.arrivals(rate, 0.0, seconds) };
            let mut model = PortModel::default();
            for at in chance.looks(interval, seconds) {
                let foreseen = look(&mut model, load.at(at), at, ports, reuse).full_in_seconds;
                let far = reuse == TwReuse::On && foreseen.is_some_and(|seconds| seconds > 300.0);
                prop_assert!(foreseen.is_none() || far, "{:?} at {}", foreseen, at);
            }
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
        gaps in prop::collection::vec(0.5_f64..5.0, 4..80),
        rate in 1.0_f64..100.0,
        wrong in any::<prop::sample::Index>(),
    ) {
        let mut model = PortModel::default();
        let (mut at, mut growth) = (0.0, None);
        let wrong = wrong.index(gaps.len());
        for (index, gap) in gaps.iter().enumerate() {
            at += gap;
            let open = if index == wrong { 0 } else { (rate * at) as u16 };
            growth = look(&mut model, tuple(open, 0), at, 65_536, TwReuse::Off).growth_per_second;
        }
        if gaps.len() >= 12 {
            let growth = growth.unwrap();
            prop_assert!((growth - rate).abs() <= 0.15 * rate + 0.6, "{growth} of {rate}");
        }
    }

    #[test]
    fn whatever_is_seen_the_forecast_is_a_time_within_the_hour(
        looks in prop::collection::vec((0.0_f64..20.0, 0_u16..1_000, 0_u16..1_000, 0_u16..1_000, 0_u16..2_000), 1..60),
    ) {
        let mut model = PortModel::default();
        let mut at = 0.0;
        for (gap, open, time_wait, recyclable, recent) in looks {
            at += gap;
            let tuple = TupleObservation { recyclable, recent, ..tuple(open, time_wait) };
            let row = look(&mut model, tuple, at, 2_000, TwReuse::On);
            prop_assert!(row.growth_per_second.is_none_or(f64::is_finite));
            prop_assert!(row.full_in_seconds.is_none_or(|seconds| (0.0..=3_600.0).contains(&seconds)));
        }
    }
}

#[test]
fn growth_needs_three_looks_and_two_seconds_and_forgets_after_a_minute() {
    let growth = |looks: Vec<(f64, u16)>| {
        let mut model = PortModel::default();
        let rows = looks.into_iter().map(|(at, open)| look(&mut model, tuple(open, 0), at, 4_000, TwReuse::Off));
        rows.last().unwrap().growth_per_second
    };
    let few = |times: &[f64]| growth(times.iter().map(|at| (*at, (at * 10.0) as u16)).collect());
    assert_eq!([few(&[1.0, 5.0]), few(&[1.0, 2.0, 2.9]), few(&[1.0, 5.0, 5.0])], [None; 3]);
    assert_eq!(few(&[1.0, 2.0, 3.0]), Some(10.0));
    let ends = (0..300_u16).map(|second| (f64::from(second), second.min(150) * 10));
    assert_eq!(growth(ends.collect()), Some(0.0));
}

#[test]
fn a_tuple_without_a_free_port_is_full_now() {
    let row = look(&mut PortModel::default(), tuple(4_000, 0), 0.0, 4_000, TwReuse::Off);
    assert_eq!((row.growth_per_second, row.full_in_seconds), (None, Some(0.0)));
}

#[test]
fn a_growth_that_ends_is_no_danger_for_long() {
    let rises: Vec<_> = (0..60).map(|second| second * 40).collect();
    let before = alarms(&rises, 1.0);
    assert!(before > 30, "{before}");
    let after = alarms(&[rises, vec![2_400; 60]].concat(), 1.0) - before;
    assert!(after <= 16, "{after}");
}
