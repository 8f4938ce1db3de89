//! The listeners as the kernel side keeps them, mended by the census and freed when they are gone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use tracker_common::{
    classify::Family,
    delivery::Target,
    flows::FlowCounters,
    limits,
    listener::{ANY_V6, Listener, ListenerCensus, ListenerCounters, ListenerKey, ListenerQueues, Slot},
};
use tracker_detect::estimators::rate;
use tracker_model::{
    counters::{ByFamily, HandshakeStats},
    delivery::Delivery,
    listener as model,
    process::Process,
    worst_socket::{Thread, WorstSocket},
};

use super::{
    error::KernelError,
    floods::Open,
    half_open::HalfOpen,
    links::Link,
    listening::{Group, Listening},
    maps::{Maps, name_of},
    process::{self, SocketOwnerCache},
    slots::{Activity, Slots},
    sources::address,
    syn_queue::SynQueue,
};

/// How long a listener that closed keeps its slot and counts: a service that restarts goes on counting. Unless half of
/// the slots are taken: programs that listen on ever new ports must not crowd out others.
const KEEP: Duration = Duration::from_mins(1);
/// A rate is taken over at least this time.
const RATE_OVER: Duration = Duration::from_millis(900);

/// What the daemon keeps about listeners between two readings.
#[derive(Default)]
pub struct Listeners {
    closed: HashMap<ListenerKey, Instant>,
    /// Listeners that the last census did not find, though no event of their end came.
    unseen: HashSet<ListenerKey>,
    drops: HashMap<ListenerKey, Drops>,
    rates: HashMap<ListenerKey, Rate>,
    processes: SocketOwnerCache,
    syn_queue: SynQueue,
    /// Whether the kernel shows which SYNs reach TCP.
    shows_delivery: bool,
    /// Entries of the map at the last reading, closed ones too.
    pub entries: u64,
    /// Slots that are taken.
    pub slots: u64,
}

/// Requests dropped by the sockets of a listener: the kernel's sum falls when one of a group closes, this one does not.
#[derive(Default)]
struct Drops {
    last: u64,
    total: u64,
    /// When `last` was read.
    at: Option<Instant>,
}

/// What was seen of the sockets of one listener.
struct Sockets<'a> {
    census: Option<ListenerCensus>,
    group: Option<&'a Group>,
    /// When that of the two was seen that is newer.
    at: Instant,
}

impl Sockets<'_> {
    /// Inode of one of them, 0 when none was seen.
    fn inode(&self) -> u64 {
        self.census.map(|census| census.inode).or_else(|| self.group.map(|group| group.worst.inode)).unwrap_or_default()
    }
}

/// What is known of listening sockets besides the events.
pub struct Seen<'a> {
    /// Number of the last census that is complete,
    pub generation: u32,
    /// and when it was taken.
    pub census_at: Instant,
    /// The devices of the namespace.
    pub links: &'a BTreeMap<u32, Link>,
    /// Half-open requests that it met.
    pub half_open: &'a HalfOpen,
    /// The sockets, each by itself.
    pub listening: &'a Listening,
}

struct Rate {
    at: (Instant, u64),
    per_second: f64,
    /// SYNs and handshakes at the last reading, and when there was one.
    active: (u64, Instant),
    /// The slot that they count in.
    slot: u32,
}

/// All entries of the listener map.
fn entries(maps: &Maps) -> Vec<(ListenerKey, Listener)> {
    // An entry that goes while the map is walked ends the walk; the next reading has the rest.
    maps.listeners.entries().collect()
}

/// Event counts of all listeners before a census, to see which it raced with.
pub fn versions(maps: &Maps) -> HashMap<ListenerKey, u64> {
    entries(maps).into_iter().map(|(key, listener)| (key, listener.version)).collect()
}

impl Listeners {
    /// Nothing was read yet; `shows_delivery` is whether the kernel shows which SYNs reach TCP.
    pub fn new(shows_delivery: bool) -> Self {
        Self { shows_delivery, ..Self::default() }
    }

    /// Sets the number of sockets to what a complete census counted, where no event changed it meanwhile: sockets older
    /// than the daemon, and groups of them, are known by the census alone.
    ///
    /// An event between the reading and the writing here is lost; the next census mends that. A listener that no census
    /// finds any more is closed, but only after two: before Linux 6.17 the iterator may pass over a socket.
    pub fn reconcile(
        &mut self,
        maps: &mut Maps,
        before: &HashMap<ListenerKey, u64>,
        generation: u32,
    ) -> Result<(), KernelError> {
        self.syn_queue = SynQueue::read();
        for (key, listener) in entries(maps) {
            if listener.slot == 0 || listener.version != before.get(&key).copied().unwrap_or(0) {
                continue;
            }
            let census = maps.listener_census.lookup(listener.slot)?;
            let seen = census.generation == generation;
            let (sockets, dual) =
                if seen { (census.queues.sockets, u64::from(census.dual)) } else { Default::default() };
            if seen {
                self.unseen.remove(&key);
            }
            // The slot too: an event that came while the listener was given it is missing there.
            let slot = maps.slots.lookup(listener.slot)?;
            let is_right = [(listener.sockets, listener.dual), (slot.sockets, slot.dual)] == [(sockets, dual); 2];
            if is_right || (!seen && self.unseen.insert(key)) {
                continue;
            }
            maps.slots.update(listener.slot, Slot { sockets, dual, ..slot })?;
            let mended = Listener { sockets, dual, ..listener };
            maps.listeners.update(key, mended)?;
        }
        Ok(())
    }

    /// Reads all listeners that are open.
    pub fn read(
        &mut self,
        maps: &mut Maps,
        slots: &mut Slots,
        now: Instant,
        seen: &Seen<'_>,
    ) -> Result<Vec<Open>, KernelError> {
        let mut open = Vec::new();
        let (mut count, mut taken, mut without) = (0, 0, false);
        for (key, listener) in entries(maps) {
            count += 1;
            taken += u64::from(listener.slot != 0);
            if listener.sockets == 0 {
                self.free(maps, slots, &key, &listener)?;
                continue;
            }
            self.closed.remove(&key);
            without |= listener.slot == 0;
            // What counts in the shared slot is nobody's.
            let (counters, census) = match listener.slot {
                0 => Default::default(),
                slot => (maps.listener_counters.sum(slot)?, maps.listener_census.lookup(slot)?),
            };
            let is_seen = listener.slot != 0 && seen.generation != 0 && census.generation == seen.generation;
            let group = seen.listening.group(&key, listener.sockets);
            let at = if group.is_some() { seen.listening.at } else { seen.census_at };
            let sockets = Sockets { census: is_seen.then_some(census), group, at };
            let mut report = self.report(key, &listener, &counters, &sockets, now);
            report.diverted_from = diverted_from(maps, listener.slot, &report)?;
            report.device = device_name(seen.links, key.device);
            if is_seen {
                report.half_open_sources = seen.half_open.of_slot(listener.slot);
            }
            open.push((listener.slot, report));
        }
        (self.entries, self.slots) = (count, taken);
        if without && !slots.freed.is_empty() {
            // It gives them the slots.
            maps.census_wanted.update(0, 1)?;
        }
        let closed = &self.closed;
        self.rates.retain(|key, _| !closed.contains_key(key));
        self.processes.search();
        open.sort_by_key(|(_, listener)| (listener.port, listener.address, listener.device_index));
        Ok(open)
    }

    fn report(
        &mut self,
        key: ListenerKey,
        listener: &Listener,
        counters: &ListenerCounters,
        sockets: &Sockets<'_>,
        now: Instant,
    ) -> model::Listener {
        let syns = by_family(counters.syns);
        let port = u16::try_from(key.port).unwrap_or_default();
        let report = model::Listener {
            device_index: key.device,
            dual_stack: key.address == ANY_V6 && listener.dual != 0,
            process: self.process(listener, sockets.inode()),
            uid: (listener.opened_ns != 0).then_some(listener.uid),
            sockets: u32::try_from(listener.sockets).unwrap_or(u32::MAX),
            shares_slot: listener.slot == 0,
            syns_by_family: syns,
            syn_rate: self.rate(key, now, listener.slot, counters),
            completed: by_family(counters.completed),
            completed_unwatched: by_family(counters.completed_unwatched),
            delivery: self.shows_delivery.then(|| delivery(counters)),
            handshake_time: counters.handshake_time,
            queues: self.queues(key, sockets),
            worst_socket: self.worst_socket(sockets.group),
            sample: sample(counters.flows),
            ..model::Listener::new(key.netns, address(key.address), port)
        };
        report.derived()
    }

    fn process(&mut self, listener: &Listener, inode: u64) -> Option<Process> {
        if listener.pid != 0 {
            return Some(Process { pid: listener.pid, comm: name_of(&listener.comm) });
        }
        self.processes.owner(inode)
    }

    /// The socket of a group that is worst off.
    fn worst_socket(&mut self, group: Option<&Group>) -> Option<WorstSocket> {
        let Group { queues, full, worst, older, .. } = group.filter(|group| group.queues.sockets > 1)?;
        // Asked for in time: a search takes a while, and the next one is not at once.
        for inode in older {
            self.processes.owner(*inode);
        }
        // Who called listen() may have left the socket to a child.
        let caller = (worst.mark.pid != 0).then(|| process::named(worst.mark.pid)).flatten();
        let is_thread = caller.is_some() && worst.mark.tid != worst.mark.pid;
        Some(WorstSocket {
            accept_queue: worst.accept_queue,
            accept_queue_max: worst.accept_queue_max,
            full: *full,
            sockets: u32::try_from(queues.sockets).unwrap_or(u32::MAX),
            inode: worst.inode,
            process: caller.or_else(|| self.processes.owner(worst.inode)),
            thread: is_thread.then(|| Thread { tid: worst.mark.tid, name: name_of(&worst.mark.comm) }),
        })
    }

    fn rate(&mut self, key: ListenerKey, now: Instant, slot: u32, counters: &ListenerCounters) -> f64 {
        let syns = counters.syns.iter().sum();
        let handshakes: u64 = counters.completed.iter().chain(&counters.completed_unwatched).sum();
        let events = syns + handshakes;
        let fresh = || Rate { at: (now, syns), per_second: 0.0, active: (events, now), slot };
        let rate = self.rates.entry(key).or_insert_with(fresh);
        if rate.slot != slot {
            *rate = fresh();
        }
        if rate.active.0 != events {
            rate.active = (events, now);
        }
        let elapsed = now.duration_since(rate.at.0);
        if elapsed >= RATE_OVER {
            rate.per_second = rate::per_second(elapsed, rate.at.1, syns);
            rate.at = (now, syns);
        }
        rate.per_second
    }

    /// How much each listener that has a slot receives.
    pub fn activity(&self) -> HashMap<ListenerKey, Activity> {
        let active = |rate: &Rate| Activity { per_second: rate.per_second, active_at: rate.active.1 };
        self.rates.iter().filter(|(_, rate)| rate.slot != 0).map(|(key, rate)| (*key, active(rate))).collect()
    }

    /// The queues with what the kernel does not say: requests turned away by all sockets that the group ever had, and
    /// the limit of the SYN queue. None before a census that saw the listener; from then on those of the moment, with
    /// what only a census counts.
    fn queues(&mut self, key: ListenerKey, sockets: &Sockets<'_>) -> Option<ListenerQueues> {
        let census = sockets.census?.queues;
        let queues = sockets.group.map_or(census, |group| ListenerQueues {
            half_open: census.half_open,
            waiting_for_data: census.waiting_for_data,
            fast_open: census.fast_open,
            half_open_unnamed: census.half_open_unnamed,
            connected: census.connected,
            ..group.queues
        });
        let drops = self.drops.entry(key).or_default();
        // A census may be older than the last walk that saw it.
        if drops.at.is_none_or(|at| at <= sockets.at) {
            drops.total += queues.drops.saturating_sub(drops.last);
            (drops.last, drops.at) = (queues.drops, Some(sockets.at));
        }
        Some(ListenerQueues { drops: drops.total, syn_queue_max: self.syn_queue.limit(&queues), ..queues })
    }

    /// Frees the slot of a listener that closed a while ago.
    ///
    /// A socket that begins to listen there between the reading and the removal loses its entry; the next census
    /// brings it back.
    fn free(
        &mut self,
        maps: &mut Maps,
        slots: &mut Slots,
        key: &ListenerKey,
        listener: &Listener,
    ) -> Result<(), KernelError> {
        // One without a slot has no counts to keep.
        let scarce = listener.slot == 0 || self.slots * 2 > u64::from(limits::LISTENERS);
        if self.closed.entry(*key).or_insert_with(Instant::now).elapsed() < KEEP && !scarce {
            return Ok(());
        }
        maps.listeners.delete(key)?;
        self.closed.remove(key);
        self.rates.remove(key);
        self.drops.remove(key);
        self.unseen.remove(key);
        slots.closed(maps, key, listener.slot)
    }
}

/// The port that the last SYN which was diverted to the listener of a slot was sent to.
fn diverted_from(maps: &Maps, slot: u32, listener: &model::Listener) -> Result<Option<u16>, KernelError> {
    if slot == 0 || listener.delivery.is_none_or(|delivery| delivery.diverted_here == 0) {
        return Ok(None);
    }
    let Some(target) = Target::from_number(maps.diverted_from.lookup(slot)?) else { return Ok(None) };
    let Some(from) = target.slot() else { return Ok(target.port()) };
    Ok(u16::try_from(maps.slots.lookup(from)?.port).ok().filter(|port| *port != 0))
}

/// Name of a device; one that is gone has its index as ss(8) shows it.
fn device_name(links: &BTreeMap<u32, Link>, index: u32) -> Option<String> {
    (index != 0).then(|| links.get(&index).map_or_else(|| format!("if{index}"), |link| link.name.clone()))
}

fn by_family(counts: [u64; Family::COUNT]) -> ByFamily {
    ByFamily { ipv4: counts[Family::Ipv4 as usize], ipv6: counts[Family::Ipv6 as usize] }
}

/// One CPU may have taken back what another counted.
fn delivery(counters: &ListenerCounters) -> Delivery {
    let count = |sum: u64| sum.cast_signed().max(0).cast_unsigned();
    Delivery {
        delivered: count(counters.delivered),
        diverted: count(counters.diverted),
        diverted_here: count(counters.diverted_here),
        ..Delivery::default()
    }
}

fn sample(counters: FlowCounters) -> HandshakeStats {
    HandshakeStats {
        first: counters.first,
        repeated: counters.repeated,
        completed: counters.completed,
        evicted: counters.evicted,
        repeated_variance: counters.repeated_variance,
        aborted: counters.aborted,
        aborted_variance: counters.aborted_variance,
    }
}
