//! How many ports there are to choose from, and how many are used: the kernel's rules.

use proptest::prelude::*;
use tracker_common::state;
use tracker_detect::ports::{PortCapacity, PortSet, PortSettings, PortsObservation, SourceObservation, TwReuse};
use tracker_model::api::PortUse;

use crate::support::{Watch, seen, tuple};

fn settings(low: u16, high: u16, reserved: &str) -> PortSettings {
    PortSettings { low, high, reserved: reserved.parse().unwrap(), ..PortSettings::default() }
}

/// Reserved ports and, of a range of an odd number, one port are not there to choose; for `connect()` neither are those
/// that are bound.
#[test]
fn capacity_is_what_the_kernel_tries() {
    let cases = [
        ((40_000, 40_099, ""), "", (0, 0, 100, 100)),
        ((40_000, 40_099, ""), "80,40000-40009,40100", (0, 10, 90, 100)),
        ((40_000, 40_099, "40005-40019,50000"), "80,40000-40009,40100", (15, 5, 80, 85)),
        ((40_000, 40_099, "1-65535"), "40000", (100, 0, 0, 0)),
        ((40_000, 40_002, ""), "", (0, 0, 2, 2)),
        ((40_000, 40_002, ""), "40000", (0, 1, 2, 2)), // The lowest is no loss.
        ((40_000, 40_002, ""), "40001", (0, 1, 1, 2)),
        ((40_000, 40_000, ""), "", (0, 0, 1, 1)), // A single port is tried.
        ((0, u16::MAX, ""), "", (0, 0, 65_536, 65_536)),
    ];
    for ((low, high, reserved), held, (reserved_ports, bound, free_for_all, bindable)) in cases {
        let expected = PortCapacity { reserved: reserved_ports, bound, free_for_all, bindable };
        let capacity = PortCapacity::new(&settings(low, high, reserved), &held.parse().unwrap());
        assert_eq!(capacity, expected, "{low}-{high} without {reserved}, {held} bound");
    }
}

/// The row of the first tuple of a look.
fn row(change: impl FnOnce(&mut PortsObservation)) -> PortUse {
    let mut seen = seen(0.0, vec![tuple(10, 50)]);
    seen.settings = settings(40_000, 40_099, "");
    seen.settings.tw_reuse = TwReuse::Off;
    seen.tuples[0].recyclable = 40;
    change(&mut seen);
    let mut watch = Watch::default();
    watch.step(&seen);
    watch.row()
}

#[test]
fn ports_of_the_tuple_itself_are_part_of_the_capacity_and_without_any_port_all_is_used() {
    let bound = row(|seen| (seen.bound, seen.tuples[0].bound) = ("40000-40029".parse().unwrap(), 10));
    assert_eq!((bound.in_use, bound.capacity, bound.bound), (60, 80, 10));
    let none = row(|seen| (seen.settings, seen.tuples[0]) = (settings(40_000, 40_099, "0-65535"), tuple(0, 0)));
    assert!(none.capacity == 0 && (none.used_ratio - 1.0).abs() < f64::EPSILON);
}

#[test]
fn reuse_is_as_it_is_set() {
    for (destination, loopback) in [("192.0.2.7", 0), ("127.8.9.1", 40), ("::1", 40), ("::ffff:127.0.0.1", 40)] {
        for (tw_reuse, reusable) in [(TwReuse::Off, 0), (TwReuse::On, 40), (TwReuse::Loopback, loopback)] {
            let row = row(|seen| {
                (seen.settings.tw_reuse, seen.tuples[0].destination) = (tw_reuse, destination.parse().unwrap());
            });
            assert_eq!((row.reusable, row.recyclable), (reusable, 40), "{destination} {tw_reuse:?}");
            assert!((row.used_ratio - f64::from(60 - reusable) / 100.0).abs() < 1e-9, "{}", row.used_ratio);
        }
    }
}

proptest! {
    #[test]
    fn what_is_used_never_exceeds_the_capacity(
        states in any::<[u16; state::COUNT]>(),
        (own, recyclable) in any::<(u16, u16)>(),
        range in any::<(u16, u16)>(),
        (reserved, taken, open) in any::<((u16, u16), (u16, u16), (u16, u16))>(),
        reuse in 0_u8..3,
    ) {
        let span = |(from, to): (u16, u16)| { let mut set = PortSet::default(); set.insert_range(from..=to); set };
        let settings = PortSettings {
            low: range.0.min(range.1), high: range.0.max(range.1), reserved: span(reserved),
            tw_reuse: TwReuse::from_number(reuse).unwrap(), ..PortSettings::default()
        };
        let mut seen = seen(0.0, vec![tuple(0, 0)]);
        (seen.tuples[0].states, seen.tuples[0].bound, seen.tuples[0].recyclable) = (states, own, recyclable);
        (seen.settings, seen.bound) = (settings.clone(), span(taken));
        seen.sources = vec![SourceObservation { address: "10.0.0.5".parse().unwrap(), ports: span(open) }];
        let mut watch = Watch::default();
        watch.step(&seen);
        let (row, pool) = (watch.row(), watch.ports().bind_pools[0].clone());
        prop_assert!(row.in_use - row.reusable <= row.capacity && row.reusable <= row.time_wait);
        prop_assert!((0.0..=1.0).contains(&row.used_ratio));
        let available = PortCapacity::new(&settings, &seen.bound);
        prop_assert!(available.free_for_all <= available.bindable && available.bindable <= settings.range_len());
        let (ports, bound) = (span(open), span(taken));
        let chosen = || ports.iter().filter(|port| settings.may_choose(*port));
        let expected = (chosen().count(), chosen().filter(|port| bound.contains(*port)).count());
        prop_assert_eq!((pool.in_use as usize, pool.bound as usize), expected);
    }
}
