//! Local ports by source and destination: a series for each of the worst 32, and one of each network namespace for the
//! rest.

use std::{collections::HashSet, net::IpAddr};

use tracker_common::limits::TUPLES_SHOWN;
use tracker_model::api::{MATTERS, PortRange, PortRest, PortUse, Ports};

/// A tuple gets a series when it holds this many ports. Otherwise a host that talks a little to thousands of others
/// would have new series with each scrape.
const MIN_PORTS: u32 = 10;

/// Network namespace, source, destination, destination port, and the range that sockets have set for themselves.
type Key = (u32, IpAddr, IpAddr, u16, Option<PortRange>);

fn key(row: &PortUse) -> Key {
    (row.netns, row.source, row.destination, row.destination_port, row.local_port_range)
}

/// Whether the sockets of a row are counted in another too: those of a range that some sockets have set, in the row of
/// all.
fn is_part(row: &PortUse, ports: &Ports) -> bool {
    let whole = (row.netns, row.source, row.destination, row.destination_port, None);
    row.local_port_range.is_some() && ports.ports.iter().any(|other| key(other) == whole)
}

/// Which tuples have a series of their own: the worst, of those that hold more than a few ports or have done so since
/// they got it.
#[derive(Debug, Default)]
pub struct TupleSeries {
    own: HashSet<Key>,
}

impl TupleSeries {
    /// Takes in how ports stand now.
    pub fn update(&mut self, ports: &Ports) {
        let has_one = |row: &PortUse| self.own.contains(&key(row));
        let is_worth_one = |row: &PortUse| row.in_use >= MIN_PORTS || row.used_ratio >= MATTERS;
        let mut own: Vec<_> = ports.ports.iter().filter(|row| has_one(row) || is_worth_one(row)).collect();
        // Of those that are alike, the ones that have a series keep it.
        own.sort_by(|a, b| {
            let worse = b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use));
            worse.then(has_one(b).cmp(&has_one(a)))
        });
        own.truncate(TUPLES_SHOWN);
        self.own = own.iter().map(|row| key(row)).collect();
    }

    /// Those with a series of their own.
    pub fn own<'a>(&'a self, ports: &'a Ports) -> impl Iterator<Item = &'a PortUse> {
        ports.ports.iter().filter(|row| self.own.contains(&key(row)))
    }

    /// The sum of the rest, by network namespace.
    pub fn others(&self, ports: &Ports) -> impl Iterator<Item = (u32, PortRest)> {
        ports.namespaces.iter().map(|space| {
            let mut rest = space.rest;
            let is_other =
                |row: &&PortUse| row.netns == space.netns && !self.own.contains(&key(row)) && !is_part(row, ports);
            for row in ports.ports.iter().filter(is_other) {
                rest.sockets += u64::from(row.in_use);
                rest.tuples_at_least += 1;
                rest.most = rest.most.max(row.in_use);
            }
            (space.netns, rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By destination port; all else is as in the fixture.
    fn row(port: u16, in_use: u32) -> PortUse {
        let tuple = tracker_fixtures::under_shortage().ports.ports[0].clone();
        PortUse { destination_port: port, in_use, capacity: 28_232, used_ratio: f64::from(in_use) / 28_232.0, ..tuple }
    }

    /// The worst first, as the model gives them.
    fn ports(rows: impl IntoIterator<Item = PortUse>, rest: PortRest) -> Ports {
        let mut ports = Ports::clone(&tracker_fixtures::under_shortage().ports);
        ports.ports = rows.into_iter().collect();
        ports.ports.sort_by_key(|row| std::cmp::Reverse(row.in_use));
        ports.namespaces[0].rest = rest;
        ports
    }

    fn own(series: &mut TupleSeries, ports: &Ports) -> Vec<u16> {
        series.update(ports);
        series.own(ports).map(|row| row.destination_port).collect()
    }

    #[test]
    fn the_worst_have_a_series_and_the_rest_is_a_sum() {
        let mut series = TupleSeries::default();
        let ports = ports(
            (1..=100).map(|port| row(port, u32::from(port))),
            PortRest { sockets: 7, tuples_at_least: 3, most: 5 },
        );
        assert!(own(&mut series, &ports).into_iter().eq((69..=100).rev()));
        let rest = PortRest { sockets: (1..=68).sum::<u64>() + 7, tuples_at_least: 71, most: 68 };
        assert!(series.others(&ports).eq([(ports.namespaces[0].netns, rest)]));
    }

    #[test]
    fn a_few_ports_are_no_reason_for_a_series_unless_they_are_much() {
        let mut series = TupleSeries::default();
        let narrow = PortUse { capacity: 20, used_ratio: 0.05, ..row(3, 1) };
        let ports = ports([row(1, 9), row(2, 10), narrow], PortRest::default());
        assert_eq!(own(&mut series, &ports), [2, 3]);
        let rest = PortRest { sockets: 9, tuples_at_least: 1, most: 9 };
        assert!(series.others(&ports).eq([(ports.namespaces[0].netns, rest)]));
    }

    #[test]
    fn a_range_that_sockets_set_is_counted_once() {
        let ranged = |port, low| {
            let local_port_range = Some(PortRange { low, high: low + 99 });
            PortUse { local_port_range, used_ratio: 0.0, ..row(port, 5) }
        };
        let mut series = TupleSeries::default();
        let ports = ports([row(1, 9), ranged(1, 40_000), ranged(2, 40_000), ranged(2, 40_100)], PortRest::default());
        assert_eq!(own(&mut series, &ports), [0; 0]);
        let rest = PortRest { sockets: 19, tuples_at_least: 3, most: 9 };
        assert!(series.others(&ports).eq([(ports.namespaces[0].netns, rest)]));
    }

    #[test]
    fn one_that_has_a_series_keeps_it_down_to_its_last_port_unless_others_are_worse() {
        let mut series = TupleSeries::default();
        let at = |rows: Vec<PortUse>| ports(rows, PortRest::default());
        assert_eq!(own(&mut series, &at(vec![row(1, 10)])), [1]);
        assert_eq!(own(&mut series, &at(vec![row(1, 1), row(2, 9)])), [1]);
        let alike = |range: std::ops::Range<u16>| range.map(|port| row(port, 30)).collect::<Vec<_>>();
        let held = own(&mut series, &at(alike(100..132)));
        assert_eq!(own(&mut series, &at(alike(80..132))), held, "those that are alike do not take turns");
        let worse = own(&mut series, &at([alike(80..132), vec![row(1, 31)]].concat()));
        assert_eq!((worse[0], worse.len()), (1, TUPLES_SHOWN));
        assert_eq!(own(&mut series, &at(Vec::new())), [0; 0]);
        assert_eq!(own(&mut series, &at(vec![row(1, 9)])), [0; 0], "it was gone");
    }
}
