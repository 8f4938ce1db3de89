//! Listeners: a series for each of the first 256, and one for the rest.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use tracker_common::histogram::{BUCKETS, Histogram};

use tracker_model::{
    counters::{ByFamily, ListenerQueues},
    snapshot::Listener,
};

/// Most listeners that have a series of their own at one moment.
const MAX: usize = 256;

type Key = (u32, IpAddr, u16);

fn key(listener: &Listener) -> Key {
    (listener.netns, listener.address, listener.port)
}

/// Which listeners have a series of their own.
///
/// A listener keeps what it got until it closes: one that counts in the rest is not taken out of it, or the rest
/// would go back.
#[derive(Debug, Default)]
pub struct ListenerSeries {
    own: HashSet<Key>,
    rest: HashMap<Key, ListenerCounters>,
    sum: Option<ListenerCounters>,
    evictions: Evictions,
}

/// The listeners of one snapshot.
#[derive(Debug)]
pub struct Split<'a> {
    /// Those with a series of their own.
    pub own: Vec<&'a Listener>,
    /// The rest, if there ever was one.
    pub other: Option<OtherListeners>,
    /// Connections that left the samples of their listeners before they were completed; never goes back.
    pub evicted: u64,
}

/// What left the samples of all listeners, those that have closed included.
#[derive(Debug, Default)]
struct Evictions {
    last: HashMap<Key, u64>,
    sum: u64,
}

impl Evictions {
    fn update(&mut self, listeners: &[Listener]) -> u64 {
        let evicted = |listener: &Listener| (key(listener), listener.sample.evicted);
        let now: HashMap<Key, u64> = listeners.iter().map(evicted).collect();
        for (key, now) in &now {
            step(&mut self.sum, self.last.get(key).copied().unwrap_or_default(), *now);
        }
        self.last = now;
        self.sum
    }
}

/// Adds what a counter grew by. One that went back began anew at zero.
fn step(sum: &mut u64, before: u64, now: u64) {
    *sum += now.checked_sub(before).unwrap_or(now);
}

/// The rest of the listeners.
#[derive(Clone, Debug, Default)]
pub struct OtherListeners {
    /// Everything that was counted for them; never goes back.
    pub counters: ListenerCounters,
    /// Sum of their queues at the last census.
    pub queues: ListenerQueues,
    /// Sum of their sockets.
    pub sockets: u64,
}

/// The counters of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerCounters {
    /// SYNs by watched interfaces.
    pub syns: ByFamily,
    /// Handshakes completed by watched interfaces.
    pub completed: ByFamily,
    /// Handshakes completed by other interfaces.
    pub completed_unwatched: ByFamily,
    /// Time from the first SYN-ACK to ESTABLISHED.
    pub handshake_time: Histogram,
    /// Requests dropped.
    pub drops: u64,
    /// SYNs that repeat an earlier one, an estimate.
    pub repeated: u64,
}

impl From<&Listener> for ListenerCounters {
    fn from(listener: &Listener) -> Self {
        Self {
            syns: listener.syns,
            completed: listener.completed,
            completed_unwatched: listener.completed_unwatched,
            handshake_time: listener.handshake_time,
            drops: listener.census.map_or(0, |census| census.drops),
            repeated: listener.sample.repeated,
        }
    }
}

impl ListenerCounters {
    /// Adds what was counted between two readings.
    fn advance(&mut self, before: &Self, now: &Self) {
        let steps = |sum: &mut ByFamily, before: ByFamily, now: ByFamily| {
            step(&mut sum.ipv4, before.ipv4, now.ipv4);
            step(&mut sum.ipv6, before.ipv6, now.ipv6);
        };
        steps(&mut self.syns, before.syns, now.syns);
        steps(&mut self.completed, before.completed, now.completed);
        steps(&mut self.completed_unwatched, before.completed_unwatched, now.completed_unwatched);
        step(&mut self.drops, before.drops, now.drops);
        step(&mut self.repeated, before.repeated, now.repeated);
        let (sum, before, now) = (&mut self.handshake_time, &before.handshake_time, &now.handshake_time);
        step(&mut sum.sum_us, before.sum_us, now.sum_us);
        for bucket in 0..BUCKETS {
            step(&mut sum.buckets[bucket], before.buckets[bucket], now.buckets[bucket]);
        }
    }
}

impl ListenerSeries {
    /// Takes in the listeners of a snapshot.
    pub fn update<'a>(&mut self, listeners: &'a [Listener]) -> Split<'a> {
        let open: HashSet<Key> = listeners.iter().map(key).collect();
        self.own.retain(|key| open.contains(key));
        self.rest.retain(|key, _| open.contains(key));
        let mut own = Vec::with_capacity(listeners.len().min(MAX));
        let mut other = OtherListeners::default();
        for listener in listeners {
            if self.has_own(key(listener)) {
                own.push(listener);
            } else {
                self.count_in_rest(listener);
                other.sockets += u64::from(listener.sockets);
                add_queues(&mut other.queues, listener.census.unwrap_or_default());
            }
        }
        let other = self.sum.map(|counters| OtherListeners { counters, ..other });
        Split { own, other, evicted: self.evictions.update(listeners) }
    }

    fn has_own(&mut self, key: Key) -> bool {
        if self.own.contains(&key) {
            return true;
        }
        let free = self.own.len() < MAX && !self.rest.contains_key(&key);
        free && self.own.insert(key)
    }

    fn count_in_rest(&mut self, listener: &Listener) {
        let now = ListenerCounters::from(listener);
        let before = self.rest.insert(key(listener), now).unwrap_or_default();
        self.sum.get_or_insert_default().advance(&before, &now);
    }
}

fn add_queues(sum: &mut ListenerQueues, queues: ListenerQueues) {
    sum.syn_queue += queues.syn_queue;
    sum.syn_queue_young += queues.syn_queue_young;
    sum.accept_queue += queues.accept_queue;
    sum.accept_queue_max += queues.accept_queue_max;
    sum.half_open += queues.half_open;
    sum.connected += queues.connected;
    sum.drops += queues.drops;
    sum.half_open_unnamed += queues.half_open_unnamed;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;

    fn listeners(ports: std::ops::Range<u16>, syns: u64) -> Vec<Listener> {
        ports
            .map(|port| {
                let mut listener = sample::listener("192.0.2.1", port);
                listener.syns.ipv4 = syns;
                listener.handshake_time.buckets[2] = syns;
                listener.census = Some(ListenerQueues { half_open: 2, drops: 1, ..ListenerQueues::default() });
                listener
            })
            .collect()
    }

    #[test]
    fn few_listeners_all_have_their_own_series() {
        let all = listeners(0..256, 5);
        let mut series = ListenerSeries::default();
        let split = series.update(&all);
        assert_eq!((split.own.len(), split.other.is_none()), (256, true));
    }

    #[test]
    fn the_rest_is_summed() {
        let all = listeners(0..260, 5);
        let mut series = ListenerSeries::default();
        let split = series.update(&all);
        assert_eq!(split.own.len(), 256);
        let other = split.other.unwrap();
        assert_eq!((other.counters.syns.ipv4, other.counters.handshake_time.buckets[2]), (20, 20));
        assert_eq!((other.queues.half_open, other.counters.drops, other.sockets), (8, 4, 4));
    }

    #[test]
    fn the_rest_never_goes_back_when_its_listeners_close_or_begin_anew() {
        let mut series = ListenerSeries::default();
        series.update(&listeners(0..258, 5));
        let all = listeners(0..257, 6);
        let other = series.update(&all).other.unwrap();
        assert_eq!((other.counters.syns.ipv4, other.sockets), (11, 1), "5 of the closed one, 6 of the open one");
        let all = listeners(0..257, 2);
        let other = series.update(&all).other.unwrap();
        assert_eq!(other.counters.syns.ipv4, 13, "it was closed and opened again between two snapshots");
    }

    #[test]
    fn a_freed_series_goes_to_a_new_listener_not_to_one_of_the_rest() {
        let mut series = ListenerSeries::default();
        series.update(&listeners(0..257, 5));
        let mut all = listeners(1..257, 5);
        all.extend(listeners(1000..1001, 1));
        let split = series.update(&all);
        let ports: Vec<_> = split.own.iter().map(|listener| listener.port).collect();
        assert!(ports.contains(&1000) && !ports.contains(&256));
        assert_eq!((ports.len(), split.other.unwrap().counters.syns.ipv4), (256, 5));
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
        let mut after = |listeners: Vec<Listener>| series.update(&listeners).evicted;
        assert_eq!((after(with(0..300, 2)), after(with(0..300, 3))), (600, 900), "those without series too");
        assert_eq!(after(with(0..1, 5)), 902, "299 closed");
        assert_eq!(after(with(0..1, 1)), 903, "it was closed and opened again");
    }

    #[test]
    fn repeats_of_the_rest_are_summed() {
        let mut all = listeners(0..258, 5);
        for listener in &mut all {
            listener.sample.repeated = 3;
        }
        assert_eq!(ListenerSeries::default().update(&all).other.unwrap().counters.repeated, 6);
    }
}
