//! Listeners: a series for each of the first 256, and one for the rest.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use tracker_model::{field::Kind, listener::Listener, listener_fields::FIELDS};

/// Most listeners that have a series of their own at one moment.
const MAX: usize = 256;

/// None: those that share one slot, and so are counted once.
type Key = Option<(u32, IpAddr, u16, u32)>;

fn key(listener: &Listener) -> Key {
    (!listener.shares_slot).then_some((listener.netns, listener.address, listener.port, listener.device_index))
}

/// Which listeners have a series of their own.
///
/// A listener keeps what it got until it closes: one that counts in the rest is not taken out of it, or the rest
/// would go back. Those that share one slot count in the rest until they have one of their own.
#[derive(Debug, Default)]
pub struct ListenerSeries {
    own: HashSet<Key>,
    rest: HashMap<Key, Counts>,
    sum: Option<Counts>,
    evicted: HashMap<Key, u64>,
    evictions: u64,
}

/// For each of [`FIELDS`] its counts.
type Counts = Vec<Vec<u64>>;

impl ListenerSeries {
    /// Takes in the listeners of a snapshot.
    pub fn update(&mut self, listeners: &[Listener]) {
        let open: HashSet<Key> = listeners.iter().map(key).collect();
        self.own.retain(|key| open.contains(key));
        // What is shared goes on counting.
        self.rest.retain(|key, _| key.is_none() || open.contains(key));
        self.clear_gauges();
        for listener in listeners {
            let key = key(listener);
            if key.is_some() && self.own.len() < MAX && !self.rest.contains_key(&key) {
                self.own.insert(key);
            } else if !self.own.contains(&key) {
                self.count_in_rest(listener);
            }
        }
        self.count_evictions(listeners);
    }

    /// Whether it has a series of its own.
    #[must_use]
    pub fn has_own(&self, listener: &Listener) -> bool {
        self.own.contains(&key(listener))
    }

    /// The sums of the rest, for each of [`FIELDS`], if there ever was one. Counters never go back.
    #[must_use]
    pub fn other(&self) -> Option<&Counts> {
        self.sum.as_ref()
    }

    /// Connections that left the samples of their listeners before they were completed; never goes back.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    fn clear_gauges(&mut self) {
        for (sums, field) in self.sum.iter_mut().flatten().zip(FIELDS) {
            if field.metric.as_ref().is_none_or(|metric| metric.kind == Kind::Gauge) {
                sums.clear();
            }
        }
    }

    /// Adds gauges, and what counters grew by.
    fn count_in_rest(&mut self, listener: &Listener) {
        let all = self.sum.get_or_insert_with(|| vec![Vec::new(); FIELDS.len()]);
        let before = self.rest.entry(key(listener)).or_insert_with(|| vec![Vec::new(); FIELDS.len()]);
        for ((sums, before), field) in all.iter_mut().zip(before).zip(FIELDS) {
            let now = field.counts(listener);
            if now.is_empty() || !field.is_summed {
                // What was known is kept: a counter that comes back goes on from there.
                continue;
            }
            let is_gauge = field.metric.as_ref().is_none_or(|metric| metric.kind == Kind::Gauge);
            sums.resize(now.len(), 0);
            before.resize(now.len(), 0);
            for ((sum, before), now) in sums.iter_mut().zip(before.iter()).zip(&now) {
                *sum += if is_gauge { *now } else { growth(*before, *now) };
            }
            *before = now;
        }
    }

    /// Counts what left the samples of all listeners, those that have closed included.
    fn count_evictions(&mut self, listeners: &[Listener]) {
        let now: HashMap<Key, u64> =
            listeners.iter().map(|listener| (key(listener), listener.sample.evicted)).collect();
        for (key, now) in &now {
            self.evictions += growth(self.evicted.get(key).copied().unwrap_or_default(), *now);
        }
        self.evicted.retain(|key, _| key.is_none());
        self.evicted.extend(now);
    }
}

/// What a counter grew by. One that went back began again at zero.
fn growth(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::{counters::ListenerQueues, field::Field};

    fn listeners(ports: std::ops::Range<u16>, syns: u64) -> Vec<Listener> {
        ports
            .map(|port| {
                let mut listener = sample::listener("192.0.2.1", port);
                listener.syns_by_family.ipv4 = syns;
                listener.handshake_time.buckets[2] = syns;
                listener.queues = Some(ListenerQueues { half_open: 2, drops: 1, ..ListenerQueues::default() });
                listener
            })
            .collect()
    }

    /// Counts of the rest by the name of the metric, without its prefix.
    fn sum(series: &ListenerSeries, name: &str) -> Vec<u64> {
        let name = format!("tracker_listener_{name}");
        let is_it = |field: &Field<Listener>| field.metric.as_ref().is_some_and(|metric| metric.name == name);
        series.sum.as_ref().unwrap()[FIELDS.iter().position(is_it).unwrap()].clone()
    }

    #[test]
    fn few_listeners_all_have_their_own_series() {
        let all = listeners(0..256, 5);
        let mut series = ListenerSeries::default();
        series.update(&all);
        assert_eq!((series.own.len(), series.other().is_none()), (256, true));
    }

    #[test]
    fn the_rest_is_summed() {
        let all = listeners(0..260, 5);
        let mut series = ListenerSeries::default();
        series.update(&all);
        assert_eq!(series.own.len(), 256);
        assert_eq!((sum(&series, "syns_total"), sum(&series, "handshake_seconds")[2]), (vec![20, 0], 20));
        assert_eq!(
            [sum(&series, "accept_queue_limit"), sum(&series, "syn_queue_limit")],
            [[0; 0]; 2],
            "no sum of limits"
        );
        assert_eq!(
            [sum(&series, "half_open"), sum(&series, "dropped_requests_total"), sum(&series, "sockets")],
            [[8], [4], [4]]
        );
    }

    #[test]
    fn the_rest_never_goes_back_when_its_listeners_close_or_start_again() {
        let mut series = ListenerSeries::default();
        series.update(&listeners(0..258, 5));
        let all = listeners(0..257, 6);
        series.update(&all);
        let syns = sum(&series, "syns_total")[0];
        assert_eq!((syns, sum(&series, "sockets")[0]), (11, 1), "5 of the closed one, 6 of the open one");
        let all = listeners(0..257, 2);
        series.update(&all);
        let syns = sum(&series, "syns_total")[0];
        assert_eq!(syns, 13, "it was closed and opened again between two snapshots");
    }

    #[test]
    fn a_counter_that_no_census_saw_for_a_moment_goes_on_where_it_was() {
        let mut series = ListenerSeries::default();
        let mut all = listeners(0..257, 5);
        let queues = all[256].queues;
        series.update(&all);
        all[256].queues = None;
        series.update(&all);
        assert_eq!(sum(&series, "half_open"), [0; 0], "it is not known");
        all[256].queues = queues;
        series.update(&all);
        assert_eq!(sum(&series, "dropped_requests_total"), [1]);
    }

    #[test]
    fn a_freed_series_goes_to_a_new_listener_not_to_one_of_the_rest() {
        let mut series = ListenerSeries::default();
        series.update(&listeners(0..257, 5));
        let mut all = listeners(1..257, 5);
        all.extend(listeners(1000..1001, 1));
        series.update(&all);
        let has_own = |listener: &&Listener| series.has_own(listener);
        let ports: Vec<_> = all.iter().filter(has_own).map(|listener| listener.port).collect();
        assert!(ports.contains(&1000) && !ports.contains(&256));
        assert_eq!((ports.len(), sum(&series, "syns_total")[0]), (256, 5));
    }

    #[test]
    fn what_some_share_is_counted_once() {
        let mut series = ListenerSeries::default();
        let mut after = |ports, syns| {
            let mut all = listeners(ports, syns);
            for listener in &mut all {
                listener.shares_slot = true;
            }
            series.update(&all);
            assert!(series.own.is_empty());
            (sum(&series, "syns_total")[0], sum(&series, "sockets"))
        };
        assert_eq!(after(0..3, 5), (5, vec![3]));
        assert_eq!(after(1..3, 7), (7, vec![2]), "one closed, or got a slot of its own");
        assert_eq!(after(0..0, 7), (7, vec![]));
        assert_eq!(after(0..2, 9), (9, vec![2]), "others came");
    }

    #[test]
    fn what_left_the_samples_is_summed_and_never_goes_back() {
        let with = |ports, evicted| {
            let mut all = listeners(ports, 1);
            for listener in &mut all {
                listener.sample.evicted = evicted;
            }
            all
        };
        let mut series = ListenerSeries::default();
        let mut after = |listeners: Vec<Listener>| {
            series.update(&listeners);
            series.evictions()
        };
        assert_eq!((after(with(0..300, 2)), after(with(0..300, 3))), (600, 900), "those without series too");
        assert_eq!(after(with(0..1, 5)), 902, "299 closed");
        assert_eq!(after(with(0..1, 1)), 903, "it was closed and opened again");
    }
}
