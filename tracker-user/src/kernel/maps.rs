//! Typed access to the maps of the object. Each map is taken out of the object once.

use std::{
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, Queue},
    util::nr_cpus,
};
use tracker_common::{
    counters::{Census, Interface, InterfaceCounters, SocketCounters},
    flows::{FlowCounters, Sampling},
    hash::Halves,
    limits,
    listener::{Listener, ListenerCensus, ListenerCounters, ListenerKey, Slot},
    names,
    ports::{
        BindFailureKey, Failure, FailureKey, Holder, HolderKey, Maker, MakerKey, PortBuckets, PortPass, PortSource,
        PortTotals, PortTuple, Watched,
    },
    socket::SocketQuery,
    sources::{HalfOpenSource, Registers, SourceSample},
};

use super::error::KernelError;

/// Ports.
const PORTS: u32 = 1 << 16;

/// All maps of the object.
pub struct Maps {
    pub interfaces: Array<MapData, Interface>,
    pub interface_counters: PerCpuArray<MapData, InterfaceCounters>,
    pub local_addresses: HashMap<MapData, [u8; 16], u8>,
    pub local_places: Array<MapData, Halves>,
    pub local_prefixes: LpmTrie<MapData, [u8; 16], u8>,
    pub slots: Array<MapData, Slot>,
    pub refused_syns: Mapped<u64>,
    pub listeners: HashMap<MapData, ListenerKey, Listener>,
    pub free_slots: Queue<MapData, u32>,
    pub listener_counters: PerCpuArray<MapData, ListenerCounters>,
    pub listener_census: Array<MapData, ListenerCensus>,
    pub sources: Array<MapData, Registers>,
    pub source_samples: Array<MapData, SourceSample>,
    pub sampling: Array<MapData, Sampling>,
    pub half_open_sources: Mapped<HalfOpenSource>,
    pub socket_counters: PerCpuArray<MapData, SocketCounters>,
    pub census: Array<MapData, Census>,
    pub census_generation: Array<MapData, u32>,
    pub census_wanted: Array<MapData, u32>,
    pub port_pass: Array<MapData, PortPass>,
    pub port_tuples: Mapped<PortTuple>,
    pub port_totals: Array<MapData, PortTotals>,
    pub port_buckets: Array<MapData, PortBuckets>,
    pub port_sources: Array<MapData, PortSource>,
    pub holders: HashMap<MapData, HolderKey, Holder>,
    pub holders_last: Array<MapData, [u64; 2]>,
    pub leaks: HashMap<MapData, HolderKey, Holder>,
    pub connect_failures: HashMap<MapData, FailureKey, Failure>,
    pub watched: HashMap<MapData, Watched, u64>,
    pub makers: HashMap<MapData, MakerKey, Maker>,
    pub bind_failures: HashMap<MapData, BindFailureKey, Failure>,
    pub socket_query: Array<MapData, SocketQuery>,
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
            local_places: take(object, names::LOCAL_PLACES)?,
            local_prefixes: take(object, names::LOCAL_PREFIXES)?,
            slots: take(object, names::SLOTS)?,
            refused_syns: Mapped::take(object, names::REFUSED_SYNS, PORTS)?,
            listeners: take(object, names::LISTENERS)?,
            free_slots: take(object, names::FREE_SLOTS)?,
            listener_counters: take(object, names::LISTENER_COUNTERS)?,
            listener_census: take(object, names::LISTENER_CENSUS)?,
            sources: take(object, names::SOURCES)?,
            source_samples: take(object, names::SOURCE_SAMPLES)?,
            sampling: take(object, names::SAMPLING)?,
            half_open_sources: Mapped::take(object, names::HALF_OPEN_SOURCES, limits::HALF_OPEN_SOURCES)?,
            socket_counters: take(object, names::SOCKET_COUNTERS)?,
            census: take(object, names::CENSUS)?,
            census_generation: take(object, names::CENSUS_GENERATION)?,
            census_wanted: take(object, names::CENSUS_WANTED)?,
            port_pass: take(object, names::PORT_PASS)?,
            port_tuples: Mapped::take(object, names::PORT_TUPLES, limits::PORT_TUPLES)?,
            port_totals: take(object, names::PORT_TOTALS)?,
            port_buckets: take(object, names::PORT_BUCKETS)?,
            port_sources: take(object, names::PORT_SOURCES)?,
            holders: take(object, names::HOLDERS)?,
            holders_last: take(object, names::HOLDERS_LAST)?,
            leaks: take(object, names::LEAKS)?,
            connect_failures: take(object, names::CONNECT_FAILURES)?,
            watched: take(object, names::WATCHED)?,
            makers: take(object, names::MAKERS)?,
            bind_failures: take(object, names::BIND_FAILURES)?,
            socket_query: take(object, names::SOCKET_QUERY)?,
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

/// An array map that is mapped into this process: it is looked through as a whole, which would be a system call for each
/// entry.
pub struct Mapped<T> {
    memory: memmap2::MmapRaw,
    entries: usize,
    _map: Map,
    _type: PhantomData<T>,
}

impl<T: aya::Pod> Mapped<T> {
    fn take(object: &mut Ebpf, name: &'static str, entries: u32) -> Result<Self, KernelError> {
        let map = object.take_map(name).ok_or(KernelError::NoSuchMap(name))?;
        let Map::Array(data) = &map else { return Err(KernelError::NoSuchMap(name)) };
        let entries = entries as usize;
        let memory = memmap2::MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw_read_only(data.fd().as_fd().as_raw_fd())
            .map_err(|source| KernelError::Io { what: format!("map {name} into memory"), source })?;
        Ok(Self { memory, entries, _map: map, _type: PhantomData })
    }

    /// An entry as it is at this moment, if there is one of this number.
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: as in `read`; the index is within the entries.
        (index < self.entries).then(|| unsafe { self.memory.as_ptr().cast::<T>().add(index).read_volatile() })
    }

    /// All entries, each as it is at this moment.
    pub fn read(&self) -> impl Iterator<Item = T> {
        let first: *const T = self.memory.as_ptr().cast();
        // SAFETY: the mapping holds `entries` values of a type whose size is a multiple of 8, as the kernel pads entries, and
        // lives as long as `self`. The kernel may change them: the read is volatile, and any bytes are a value of a Pod.
        (0..self.entries).map(move |index| unsafe { first.add(index).read_volatile() })
    }
}

/// The name of a process as the kernel keeps it.
pub fn name_of(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
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

impl Sum for FlowCounters {
    fn add(&mut self, other: &Self) {
        self.first += other.first;
        self.repeated += other.repeated;
        self.repeated_variance += other.repeated_variance;
        self.completed += other.completed;
        self.evicted += other.evicted;
    }
}

impl Sum for ListenerCounters {
    fn add(&mut self, other: &Self) {
        self.syns.add(&other.syns);
        self.completed.add(&other.completed);
        self.completed_unwatched.add(&other.completed_unwatched);
        self.flows.add(&other.flows);
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
