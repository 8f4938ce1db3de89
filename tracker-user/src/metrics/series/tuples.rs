//! Local ports by source and destination: a series for each of the worst 32, and one of each network namespace for the
//! rest.

use std::{collections::HashSet, net::IpAddr};

use tracker_common::limits::TUPLES_SHOWN;
use tracker_model::api::{PortSpace, PortUse, Ports};

/// A tuple gets a series when it holds this many ports. Otherwise a host that talks a little to thousands of others
/// would have new series with each scrape.
const MANY: u32 = 10;
/// It also gets one when it uses this share of its ports.
const MUCH: f64 = 0.01;

/// Network namespace, source, destination, destination port.
type Key = (u32, IpAddr, IpAddr, u16);

fn key(row: &PortUse) -> Key {
    (row.netns, row.source, row.destination, row.destination_port)
}

/// Which tuples have a series of their own: the worst, of those that hold more than a few ports or have done so since
/// they got it.
#[derive(Debug, Default)]
pub struct TupleSeries {
    own: HashSet<Key>,
}

/// The tuples of one moment.
#[derive(Debug)]
pub struct Tuples<'a> {
    /// Those with a series of their own, the worst first.
    pub own: Vec<&'a PortUse>,
    /// The rest, by network namespace.
    pub others: Vec<OtherTuples>,
}

/// The rest of the tuples of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherTuples {
    /// Network namespace.
    pub netns: u32,
    /// Their ports in use.
    pub in_use: u64,
    /// How many there are, at least.
    pub tuples_at_least: u64,
    /// None of them has more ports in use than this.
    pub most: u32,
}

impl TupleSeries {
    /// Takes in how ports stand now.
    pub fn update<'a>(&mut self, ports: &'a Ports) -> Tuples<'a> {
        let has_one = |row: &PortUse| self.own.contains(&key(row));
        let is_worth_one = |row: &PortUse| row.in_use >= MANY || row.used_ratio >= MUCH;
        let mut own: Vec<_> = ports.ports.iter().filter(|row| has_one(row) || is_worth_one(row)).collect();
        // Of those that are alike, the ones that have a series keep it.
        own.sort_by(|a, b| {
            let worse = b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use));
            worse.then(has_one(b).cmp(&has_one(a)))
        });
        own.truncate(TUPLES_SHOWN);
        self.own = own.iter().map(|row| key(row)).collect();
        Tuples { others: self.others(ports), own }
    }

    fn others(&self, ports: &Ports) -> Vec<OtherTuples> {
        let of_space = |space: &PortSpace| {
            let mut others = OtherTuples {
                netns: space.netns,
                in_use: space.rest.sockets,
                tuples_at_least: space.rest.tuples_at_least,
                most: space.rest.most,
            };
            let is_other = |row: &&PortUse| row.netns == space.netns && !self.own.contains(&key(row));
            for row in ports.ports.iter().filter(is_other) {
                others.in_use += u64::from(row.in_use);
                others.tuples_at_least += 1;
                others.most = others.most.max(row.in_use);
            }
            others
        };
        ports.namespaces.iter().map(of_space).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracker_model::api::PortRest;

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
        series.update(ports).own.iter().map(|row| row.destination_port).collect()
    }

    #[test]
    fn the_worst_have_a_series_and_the_rest_is_a_sum() {
        let mut series = TupleSeries::default();
        let ports = ports(
            (1..=100).map(|port| row(port, u32::from(port))),
            PortRest { sockets: 7, tuples_at_least: 3, most: 5 },
        );
        let tuples = series.update(&ports);
        assert_eq!(tuples.own.iter().map(|row| row.in_use).collect::<Vec<_>>(), (69..=100).rev().collect::<Vec<_>>());
        let in_use = (1..=68).sum::<u64>() + 7;
        assert_eq!(
            tuples.others,
            [OtherTuples { netns: ports.namespaces[0].netns, in_use, tuples_at_least: 71, most: 68 }]
        );
    }

    #[test]
    fn a_few_ports_are_no_reason_for_a_series_unless_they_are_much() {
        let mut series = TupleSeries::default();
        let narrow = PortUse { capacity: 20, used_ratio: 0.05, ..row(3, 1) };
        let ports = ports([row(1, 9), row(2, 10), narrow], PortRest::default());
        assert_eq!(own(&mut series, &ports), [3, 2]);
        assert_eq!(
            series.update(&ports).others[0],
            OtherTuples { netns: ports.namespaces[0].netns, in_use: 9, tuples_at_least: 1, most: 9 }
        );
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
