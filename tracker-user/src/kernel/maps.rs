//! Typed access to the maps of the object. Each map is taken out of the object once, and its errors name it.

use std::{
    borrow::Borrow,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf, Pod,
    maps::{self, Map, MapData, MapError, PerCpuValues, lpm_trie::Key},
    util::nr_cpus,
};
use tracker_common::{
    counters::{Census, Interface, InterfaceCounters, SocketCounters},
    flows::Sampling,
    hash::AddrWords,
    layout,
    listener::{Listener, ListenerCensus, ListenerCounters, ListenerKey, Slot, SlotOrder},
    names,
    own_ranges::{OwnRange, RangedTuple},
    ports::{
        BindFailureKey, Connector, ConnectorKey, Failure, FailureKey, Holder, HolderKey, PortBuckets, PortPass,
        PortSource, PortTotals, PortTuple, Watched,
    },
    socket::SocketQuery,
    sources::{CompletedSample, HalfOpenSource, Registers, SourceSample},
    watch::{WatchedPorts, WatchedSyns},
};

use super::error::KernelError;

type Result<T> = std::result::Result<T, KernelError>;

/// A map, and its name for errors. The operations are those of bpf(2).
pub struct Named<T> {
    name: &'static str,
    map: T,
}

pub type Array<V> = Named<maps::Array<MapData, V>>;
pub type HashMap<K, V> = Named<maps::HashMap<MapData, K, V>>;
pub type LpmTrie<K, V> = Named<maps::LpmTrie<MapData, K, V>>;
pub type PerCpuArray<V> = Named<maps::PerCpuArray<MapData, V>>;
pub type Queue<V> = Named<maps::Queue<MapData, V>>;

impl<T> Named<T> {
    fn fail(&self) -> impl Fn(MapError) -> KernelError + use<T> {
        let name = self.name;
        move |source| KernelError::Map { name, source }
    }
}

impl<V: Pod> Array<V> {
    /// The value at an index.
    pub fn lookup(&self, index: u32) -> Result<V> {
        self.map.get(&index, 0).map_err(self.fail())
    }

    /// Sets the value at an index.
    pub fn update(&mut self, index: u32, value: impl Borrow<V>) -> Result<()> {
        self.map.set(index, value, 0).map_err(self.fail())
    }
}

impl<K: Pod, V: Pod> HashMap<K, V> {
    /// The value of a key, if there is one.
    pub fn lookup(&self, key: &K) -> Option<V> {
        self.map.get(key, 0).ok()
    }

    /// Sets the value of a key.
    pub fn update(&mut self, key: impl Borrow<K>, value: impl Borrow<V>) -> Result<()> {
        self.map.insert(key, value, 0).map_err(self.fail())
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &K) -> Result<()> {
        self.map.remove(key).map_err(self.fail())
    }

    /// Removes the entries that `which` is true for.
    pub fn delete_where(&mut self, which: impl Fn(&K, &V) -> bool) -> Result<()> {
        let keys: Vec<K> = self.entries().filter(|(key, value)| which(key, value)).map(|(key, _)| key).collect();
        keys.iter().try_for_each(|key| self.delete(key))
    }

    /// All entries. Some may be missed while others are removed.
    pub fn entries(&self) -> impl Iterator<Item = (K, V)> {
        self.map.iter().filter_map(std::result::Result::ok)
    }
}

impl<K: Pod, V: Pod> LpmTrie<K, V> {
    /// Sets the value of a prefix.
    pub fn update(&mut self, prefix: &Key<K>, value: impl Borrow<V>) -> Result<()> {
        self.map.insert(prefix, value, 0).map_err(self.fail())
    }

    /// Removes a prefix.
    pub fn delete(&mut self, prefix: &Key<K>) -> Result<()> {
        self.map.remove(prefix).map_err(self.fail())
    }
}

impl<V: Pod + Default + layout::Sum> PerCpuArray<V> {
    /// The values of all CPUs at an index, added up.
    pub fn sum(&self, index: u32) -> Result<V> {
        let mut total = V::default();
        for value in self.map.get(&index, 0).map_err(self.fail())?.iter() {
            total.add(value);
        }
        Ok(total)
    }

    /// Sets the values of all CPUs at an index to zero.
    pub fn reset(&mut self, index: u32) -> Result<()> {
        let cpus = nr_cpus().map_err(|(path, source)| KernelError::Cpus { path, source })?;
        let zeros = PerCpuValues::try_from(vec![V::default(); cpus]).expect("as many values as CPUs");
        self.map.set(index, zeros, 0).map_err(self.fail())
    }
}

impl<V: Pod> Queue<V> {
    /// Adds a value at the end.
    pub fn enqueue(&mut self, value: impl Borrow<V>) -> Result<()> {
        self.map.push(value, 0).map_err(self.fail())
    }

    /// Takes the first value, if there is one.
    pub fn dequeue(&mut self) -> Option<V> {
        self.map.pop(0).ok()
    }
}

/// An array map that is mapped into this process: it is read as a whole, without a system call for each entry.
pub struct Mapped<T> {
    memory: memmap2::MmapRaw,
    entries: usize,
    _map: Map,
    _type: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// An entry as it is at this moment, if there is one of this index.
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: in bounds, as checked; the mapping lives as long as `self`. The kernel may change the entry: the read
        // is volatile, and any bytes are a value of a Pod.
        (index < self.entries).then(|| unsafe { self.memory.as_ptr().cast::<T>().add(index).read_volatile() })
    }

    /// All entries, each as it is at this moment.
    pub fn read(&self) -> impl Iterator<Item = T> {
        let first: *const T = self.memory.as_ptr().cast();
        // The size of `T` is a multiple of 8, to which the kernel pads entries, and the kernel may change them.
        // SAFETY: the mapping holds `entries` values and lives as long as `self`; the read is volatile, and any bytes
        // are a value of a Pod.
        (0..self.entries).map(move |index| unsafe { first.add(index).read_volatile() })
    }
}

/// How a map of some kind is taken out of the object.
trait Take: Sized {
    fn take(map: Map, name: &'static str) -> Result<Self>;
}

impl<T: TryFrom<Map, Error = MapError>> Take for Named<T> {
    fn take(map: Map, name: &'static str) -> Result<Self> {
        T::try_from(map).map(|map| Self { name, map }).map_err(|source| KernelError::Map { name, source })
    }
}

impl<T: Pod> Take for Mapped<T> {
    fn take(map: Map, name: &'static str) -> Result<Self> {
        let Map::Array(data) = &map else { return Err(KernelError::NoSuchMap(name)) };
        let info = data.info().map_err(|source| KernelError::Map { name, source })?;
        let entries = info.max_entries() as usize;
        let memory = memmap2::MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw_read_only(data.fd().as_fd().as_raw_fd())
            .map_err(|source| KernelError::Io { what: format!("map {name} into memory"), source })?;
        Ok(Self { memory, entries, _map: map, _type: PhantomData })
    }
}

fn take<T: Take>(object: &mut Ebpf, name: &'static str) -> Result<T> {
    T::take(object.take_map(name).ok_or(KernelError::NoSuchMap(name))?, name)
}

macro_rules! maps {
    (
        shared { $( $(#[$meta:meta])* $field:ident: $kind:ident<$($type:ty),*> = $constant:ident $_name:literal; )* }
        kernel { $($_kernel:tt)* }
    ) => {
        /// All maps that the daemon reads or writes.
        pub struct Maps {
            $( $(#[$meta])* pub $field: $kind<$($type),*>, )*
        }

        impl Maps {
            /// Takes the maps out of a loaded object.
            pub fn take(object: &mut Ebpf) -> Result<Self> {
                Ok(Self { $( $field: take(object, names::$constant)?, )* })
            }
        }
    };
}
tracker_common::for_each_map!(maps);

/// The name of a process as the kernel keeps it.
pub fn name_of(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}
