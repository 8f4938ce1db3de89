//! Looks at many tuples.

use super::*;

#[test]
fn all_that_are_short_are_followed() {
    let mut watch = Watch::default();
    let mut open = |at: u16| {
        // Each has half of its ports and takes one more a second.
        let tuples = (0..1_024).map(|port| TupleObservation { destination_port: port, ..tuple(500 + at, 0) }).collect();
        watch.step(&seen(at.into(), tuples));
        watch.ports()
    };
    for at in 0..9 {
        open(at);
    }
    for row in &open(9).ports {
        let (growth, left) = (row.growth_per_second.unwrap(), row.full_in_seconds.unwrap());
        assert!((growth - 1.0).abs() < 1e-9 && (left - 491.0).abs() < 1e-6, "{growth}/s, {left} s");
    }
}

#[test]
fn few_ports_of_many_are_followed_only_where_they_are_the_most() {
    let mut watch = Watch::default();
    for at in 0..5_u16 {
        let tuples =
            (0..200).map(|port| TupleObservation { destination_port: port, ..tuple(port / 20 + at, 0) }).collect();
        watch.step(&seen(at.into(), tuples));
    }
    let shown: Vec<_> = watch.ports().ports.iter().map(|row| row.growth_per_second.is_some()).collect();
    assert_eq!(shown, [vec![true; WORST], vec![false; 200 - WORST]].concat());
    assert_eq!(watch.model.netns[&testing::NETNS].histories.len(), WORST);
}

#[test]
fn between_two_looks_nothing_is_copied() {
    let mut watch = Watch::default();
    watch.step(&seen(0.0, vec![tuple(10, 0)]));
    let first = watch.ports();
    assert!(Arc::ptr_eq(&first, &watch.ports()));
    watch.step(&seen(1.0, vec![tuple(11, 0)]));
    assert_eq!((first.ports[0].in_use, watch.ports().ports[0].in_use), (10, 11));
    watch.forget(testing::NETNS, wall(2.0));
    assert_eq!(watch.ports().ports, []);
}
