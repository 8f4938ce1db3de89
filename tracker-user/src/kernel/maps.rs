//! Typed access to the maps of the object. Each map is taken out of the object once.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, Queue},
    util::nr_cpus,
};
use tracker_common::{
    counters::{Census, Interface, InterfaceCounters, SocketCounters},
    listener::{Listener, ListenerCensus, ListenerCounters, ListenerKey, Slot},
    names,
};

use super::error::KernelError;

/// All maps of the object.
pub struct Maps {
    pub interfaces: Array<MapData, Interface>,
    pub interface_counters: PerCpuArray<MapData, InterfaceCounters>,
    pub local_addresses: HashMap<MapData, [u8; 16], u8>,
    pub local_prefixes: LpmTrie<MapData, [u8; 16], u8>,
    pub slots: Array<MapData, Slot>,
    pub refused_syns: RefusedSyns,
    pub listeners: HashMap<MapData, ListenerKey, Listener>,
    pub free_slots: Queue<MapData, u32>,
    pub listener_counters: PerCpuArray<MapData, ListenerCounters>,
    pub listener_census: Array<MapData, ListenerCensus>,
    pub socket_counters: PerCpuArray<MapData, SocketCounters>,
    pub census: Array<MapData, Census>,
    pub census_generation: Array<MapData, u32>,
    pub census_wanted: Array<MapData, u32>,
    pub losses: PerCpuArray<MapData, u64>,
    cpus: usize,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub fn take(object: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            interfaces: take(object, names::INTERFACES)?,
            interface_counters: take(object, names::INTERFACE_COUNTERS)?,
            local_addresses: take(object, names::LOCAL_ADDRESSES)?,
            local_prefixes: take(object, names::LOCAL_PREFIXES)?,
            slots: take(object, names::SLOTS)?,
            refused_syns: RefusedSyns::take(object)?,
            listeners: take(object, names::LISTENERS)?,
            free_slots: take(object, names::FREE_SLOTS)?,
            listener_counters: take(object, names::LISTENER_COUNTERS)?,
            listener_census: take(object, names::LISTENER_CENSUS)?,
            socket_counters: take(object, names::SOCKET_COUNTERS)?,
            census: take(object, names::CENSUS)?,
            census_generation: take(object, names::CENSUS_GENERATION)?,
            census_wanted: take(object, names::CENSUS_WANTED)?,
            losses: take(object, names::LOSSES)?,
            cpus: nr_cpus().map_err(|(path, source)| KernelError::Cpus { path, source })?,
        })
    }

    /// A value of zero for each CPU.
    pub fn zeros<T: aya::Pod + Default>(&self) -> PerCpuValues<T> {
        PerCpuValues::try_from(vec![T::default(); self.cpus]).expect("as many values as CPUs")
    }
}

fn take<T>(object: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or(KernelError::NoSuchMap(name))?;
    T::try_from(map).map_err(|source| KernelError::Map { name, source })
}

/// SYNs to no listener by port, as the kernel counts them, mapped into this process.
pub struct RefusedSyns {
    memory: memmap2::MmapRaw,
    _map: Map,
}

impl RefusedSyns {
    const PORTS: usize = 65_536;

    fn take(object: &mut Ebpf) -> Result<Self, KernelError> {
        let name = names::REFUSED_SYNS;
        let map = object.take_map(name).ok_or(KernelError::NoSuchMap(name))?;
        let Map::Array(data) = &map else { return Err(KernelError::NoSuchMap(name)) };
        let memory = memmap2::MmapOptions::new()
            .len(Self::PORTS * size_of::<u64>())
            .map_raw_read_only(data.fd().as_fd().as_raw_fd())
            .map_err(|source| KernelError::Io { what: format!("map {name} into memory"), source })?;
        Ok(Self { memory, _map: map })
    }

    /// Counts by port.
    pub fn read(&self) -> impl Iterator<Item = (u16, u64)> {
        let first: *mut AtomicU64 = self.memory.as_mut_ptr().cast();
        (0..=u16::MAX).map(move |port| {
            // SAFETY: the mapping holds 65,536 aligned u64, lives as long as `self`, and the kernel changes them
            // atomically. They are only read here: the mapping is read-only.
            (port, unsafe { (*first.add(usize::from(port))).load(Ordering::Relaxed) })
        })
    }
}

/// Sums of counters over CPUs.
pub trait Sum: Sized {
    /// Adds `other` to `self`.
    fn add(&mut self, other: &Self);

    /// The sum over all CPUs.
    fn sum(values: &PerCpuValues<Self>) -> Self
    where
        Self: aya::Pod + Default,
    {
        let mut total = Self::default();
        for value in values.iter() {
            total.add(value);
        }
        total
    }
}

impl Sum for u64 {
    fn add(&mut self, other: &Self) {
        *self += other;
    }
}

impl<T: Sum, const N: usize> Sum for [T; N] {
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.iter_mut().zip(other) {
            mine.add(theirs);
        }
    }
}

impl Sum for tracker_common::histogram::Histogram {
    fn add(&mut self, other: &Self) {
        self.buckets.add(&other.buckets);
        self.sum_us += other.sum_us;
    }
}

impl Sum for InterfaceCounters {
    fn add(&mut self, other: &Self) {
        self.packets.add(&other.packets);
        self.syns.add(&other.syns);
    }
}

impl Sum for ListenerCounters {
    fn add(&mut self, other: &Self) {
        self.syns.add(&other.syns);
        self.completed.add(&other.completed);
        self.completed_unwatched.add(&other.completed_unwatched);
        self.handshake_time.add(&other.handshake_time);
    }
}

impl Sum for SocketCounters {
    fn add(&mut self, other: &Self) {
        self.transitions.add(&other.transitions);
        self.closes.add(&other.closes);
        self.connect_failures.add(&other.connect_failures);
        self.connect_time.add(&other.connect_time);
        self.handshake_time.add(&other.handshake_time);
        self.lifetime.add(&other.lifetime);
        self.timed = self.timed.wrapping_add(other.timed);
    }
}
