//! Which listeners have counters of their own (a slot): those that receive SYNs, not those that came first.
//!
//! A listener gets a slot when it opens, while there are free ones besides a reserve. Of one without a slot the packet
//! programs note its SYNs in a table by hash; at the next reading it gets a slot of the reserve, or that of a listener
//! that is idle or receives far fewer. One with an incident keeps its own. The slots change hands in a walk over the
//! listening sockets, in the kernel, where the events of these sockets are seen too.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tracker_common::{
    hash, limits,
    listener::{Listener, ListenerCensus, ListenerKey, Slot, SlotOrder, grant_index, shared_index},
};

use super::{error::KernelError, listening::Listening, maps::Maps, sources};

/// One without a SYN for this long may lose its slot to any that receives one.
const IDLE: Duration = Duration::from_secs(5);
/// Others lose it only to one that receives this many times as many.
const FAR_MORE: f64 = 8.0;

/// Gives slots to listeners.
pub struct Slots {
    /// [`tracker_common::maps::SHARED_SYNS`] at the last reading.
    shared: Box<[u64]>,
    read_at: Instant,
    /// Slots in the reserve.
    reserved: usize,
    /// Listeners that are losing their slot.
    recalled: Vec<(ListenerKey, u32)>,
    /// Orders that were given, and whether the first entry says so.
    ordered: HashSet<u32>,
    has_orders: bool,
    /// Slots that were cleared since they were asked for.
    pub freed: Vec<u32>,
    /// Listeners that received SYNs, or handshakes, and got no slot at the last reading.
    pub starved: Vec<ListenerKey>,
}

/// How much a listener receives.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// SYNs and handshakes a second, over the last second or more.
    pub per_second: f64,
    /// When there was the last one, or when it got its slot.
    pub active_at: Instant,
}

/// A listener without a slot that receives SYNs.
#[derive(Clone, Copy, Debug)]
struct Demand {
    key: ListenerKey,
    bucket: u32,
    per_second: f64,
}

impl Slots {
    /// Puts all slots where they are given from; slot 0 is shared by those that have none.
    pub fn fill(maps: &mut Maps) -> Result<Self, KernelError> {
        for slot in 1..=limits::LISTENERS {
            let queue = if slot <= limits::RESERVED_SLOTS { &mut maps.reserved_slots } else { &mut maps.free_slots };
            queue.enqueue(slot)?;
        }
        Ok(Self {
            shared: vec![0; limits::SHARED_SYNS as usize].into(),
            read_at: Instant::now(),
            reserved: limits::RESERVED_SLOTS as usize,
            recalled: Vec::new(),
            ordered: HashSet::new(),
            has_orders: false,
            freed: Vec::new(),
            starved: Vec::new(),
        })
    }

    /// Walks over the listening sockets, and gives slots to the listeners that received SYNs without one. `activity`
    /// is of all listeners; `keeps` says which may not lose theirs.
    pub fn assign(
        &mut self,
        maps: &mut Maps,
        listening: &mut Listening,
        activity: &HashMap<ListenerKey, Activity>,
        keeps: impl Fn(&ListenerKey) -> bool,
    ) -> Result<(), KernelError> {
        self.finish(maps)?;
        let demand = self.demand(maps);
        if !demand.is_empty() {
            self.make_room(maps, listening, &demand, activity, keeps)?;
            for of in &demand {
                self.order(maps, grant_index(of.bucket))?;
            }
            if !listening.is_available() {
                // The census gives them their slots.
                maps.census_wanted.update(0, 1)?;
            }
        }
        listening.read();
        self.count_starved(maps, &demand);
        Ok(())
    }

    /// Ends what the last call began.
    fn finish(&mut self, maps: &mut Maps) -> Result<(), KernelError> {
        self.take_recalled(maps)?;
        if !std::mem::take(&mut self.has_orders) {
            return Ok(());
        }
        for order in std::mem::take(&mut self.ordered) {
            maps.slot_orders.update(order, 0)?;
        }
        maps.slot_orders.update(0, 0)
    }

    fn order(&mut self, maps: &mut Maps, index: u32) -> Result<(), KernelError> {
        let yes: SlotOrder = 1;
        maps.slot_orders.update(index, yes)?;
        if !self.has_orders {
            maps.slot_orders.update(0, yes)?;
        }
        self.has_orders = true;
        self.ordered.insert(index);
        Ok(())
    }

    /// Listeners without a slot that received something since the last call.
    fn demand(&mut self, maps: &Maps) -> Vec<Demand> {
        let seconds = self.read_at.elapsed().as_secs_f64().max(0.001);
        self.read_at = Instant::now();
        let mut busy = HashMap::new();
        for (bucket, (now, before)) in (0..).zip(maps.shared_syns.read().zip(&mut self.shared)) {
            if now != *before {
                #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
                busy.insert(bucket, now.wrapping_sub(*before) as f64 / seconds);
                *before = now;
            }
        }
        if busy.is_empty() {
            return Vec::new();
        }
        let demand = |(key, listener): (ListenerKey, Listener)| {
            let bucket = shared_index(hash::to_words(&key.address), key.port);
            let is_open = listener.slot == 0 && listener.sockets != 0;
            is_open.then(|| busy.get(&bucket)).flatten().map(|rate| Demand { key, bucket, per_second: *rate })
        };
        let mut demand: Vec<_> = maps.listeners.entries().filter_map(demand).collect();
        demand.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
        demand
    }

    /// Fills the reserve for those that are to get a slot: with free ones, and with those of others.
    fn make_room(
        &mut self,
        maps: &mut Maps,
        listening: &mut Listening,
        demand: &[Demand],
        activity: &HashMap<ListenerKey, Activity>,
        keeps: impl Fn(&ListenerKey) -> bool,
    ) -> Result<(), KernelError> {
        while self.reserved < demand.len()
            && let Some(slot) = maps.free_slots.dequeue()
        {
            maps.reserved_slots.enqueue(slot)?;
            self.reserved += 1;
        }
        let unserved = demand.get(self.reserved..).unwrap_or_default();
        if unserved.is_empty() {
            return Ok(());
        }
        for key in losers(unserved, activity, keeps) {
            let Some(listener) = maps.listeners.lookup(&key).filter(|listener| listener.slot != 0) else { continue };
            self.recalled.push((key, listener.slot));
            self.order(maps, listener.slot)?;
        }
        listening.read();
        self.take_recalled(maps)
    }

    /// Puts the slots into the reserve whose listeners have lost them.
    fn take_recalled(&mut self, maps: &mut Maps) -> Result<(), KernelError> {
        let mut waiting = Vec::new();
        for (key, slot) in std::mem::take(&mut self.recalled) {
            match maps.listeners.lookup(&key) {
                Some(listener) if listener.slot == 0 => {
                    // Whoever gets it next is to keep it.
                    if self.ordered.remove(&slot) {
                        maps.slot_orders.update(slot, 0)?;
                    }
                    self.free(maps, slot, true)?;
                }
                // The order stands until the next reading: where the census obeys it, that is when it has.
                Some(listener) if listener.slot == slot && self.ordered.contains(&slot) => waiting.push((key, slot)),
                _ => {}
            }
        }
        self.recalled = waiting;
        Ok(())
    }

    /// A listener has closed for good, which had this slot or none.
    pub fn closed(&mut self, maps: &mut Maps, key: &ListenerKey, slot: u32) -> Result<(), KernelError> {
        let recalled = self.recalled.iter().position(|(of, _)| of == key).map(|index| self.recalled.swap_remove(index));
        match (slot, recalled) {
            (0, None) => Ok(()),
            (0, Some((_, lost))) => self.free(maps, lost, false),
            (slot, _) => self.free(maps, slot, false),
        }
    }

    /// Takes a slot back that nobody has any more, with its counters at zero; `wanted` is whether somebody in need of
    /// one waits for it, so that it goes into the reserve however full that is.
    fn free(&mut self, maps: &mut Maps, slot: u32, wanted: bool) -> Result<(), KernelError> {
        // A port that still leads here then finds a slot of another port.
        maps.slots.update(slot, Slot::default())?;
        maps.listener_counters.reset(slot)?;
        maps.diverted_from.update(slot, 0)?;
        maps.listener_census.update(slot, ListenerCensus::default())?;
        sources::clear(maps, slot)?;
        self.freed.push(slot);
        if wanted || self.reserved < limits::RESERVED_SLOTS as usize {
            self.reserved += 1;
            return maps.reserved_slots.enqueue(slot);
        }
        maps.free_slots.enqueue(slot)
    }

    fn count_starved(&mut self, maps: &Maps, demand: &[Demand]) {
        let starves = |of: &&Demand| maps.listeners.lookup(&of.key).is_some_and(|listener| listener.slot == 0);
        self.starved = demand.iter().filter(starves).map(|of| of.key).collect();
        self.reserved = self.reserved.saturating_sub(demand.len() - self.starved.len());
    }
}

/// Listeners that lose their slots to these, the least active first; never more than are needed.
fn losers(
    demand: &[Demand],
    activity: &HashMap<ListenerKey, Activity>,
    keeps: impl Fn(&ListenerKey) -> bool,
) -> Vec<ListenerKey> {
    let wanted: HashSet<_> = demand.iter().map(|of| of.key).collect();
    let mut others: Vec<_> = activity.iter().filter(|(key, _)| !wanted.contains(key) && !keeps(key)).collect();
    others.sort_by(|(_, a), (_, b)| a.per_second.total_cmp(&b.per_second).then_with(|| a.active_at.cmp(&b.active_at)));
    let yields = |(of, (_, other)): &(&Demand, (&ListenerKey, &Activity))| {
        other.active_at.elapsed() >= IDLE || other.per_second * FAR_MORE < of.per_second
    };
    demand.iter().zip(others).take_while(yields).map(|(_, (key, _))| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u32) -> ListenerKey {
        ListenerKey { port, ..ListenerKey::default() }
    }

    fn activity(entries: &[(u32, f64, u64)]) -> HashMap<ListenerKey, Activity> {
        let now = Instant::now();
        let of = |&(port, per_second, idle): &(u32, f64, u64)| {
            let active_at = now.checked_sub(Duration::from_secs(idle)).unwrap_or(now);
            (key(port), Activity { per_second, active_at })
        };
        entries.iter().map(of).collect()
    }

    fn ports(demand: &[(u32, f64)], others: &[(u32, f64, u64)], keeps: u32) -> Vec<u32> {
        let demand: Vec<_> =
            demand.iter().map(|&(port, per_second)| Demand { key: key(port), bucket: 0, per_second }).collect();
        losers(&demand, &activity(others), |key| key.port == keeps).iter().map(|key| key.port).collect()
    }

    #[test]
    fn the_idle_lose_their_slots_first_and_those_with_an_incident_never() {
        let others = [(1, 0.0, 60), (2, 0.0, 3_000), (3, 50.0, 0), (4, 0.0, 9_000)];
        assert_eq!(ports(&[(80, 1.0)], &others, 4), [2], "the longest idle, save the one that keeps it");
        assert_eq!(ports(&[(80, 1.0), (81, 1.0), (82, 1.0)], &others, 0), [4, 2, 1]);
    }

    #[test]
    fn the_busy_yield_only_to_far_more() {
        let others = [(1, 10.0, 0), (2, 100.0, 0)];
        assert_eq!(ports(&[(80, 79.0)], &others, 0), [0_u32; 0]);
        assert_eq!(ports(&[(80, 3_000.0), (81, 100.0)], &others, 0), [1]);
    }
}
