//! The packet programs on frames of one's own, by `BPF_PROG_TEST_RUN`, which touches no interface; and programs that do
//! nothing, to measure what measuring costs.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader, Pod, TestRun as _, TestRunOptions,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{BtfTracePoint, ProgramError, SchedClassifier, SkLookup, TestRunResult, Xdp, sk_lookup::SkLookupLinkId},
};
use tracker_common::{
    counters::{Interface, InterfaceCounters},
    flows::Sampling,
    hash::{self, AddrWords},
    limits,
    listener::{self, EXACT_SHARED, ExactListener, Listener, ListenerCounters, ListenerKey, Port, Slot, mapped},
    names,
};
use tracker_user::kernel::OBJECT;

use crate::{
    namespace::Namespace,
    sk_lookup::{self, SocketLookup},
};

/// What the build script made of `tests/ebpf`.
static EMPTY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/empty"));

const EMPTY_XDP: &str = "empty_xdp";
const EMPTY_TC: &str = "empty_tc";
const EMPTY_SOCK: &str = "empty_sock";
const EMPTY_SK_LOOKUP: &str = "empty_sk_lookup";
/// The kernel runs programs as if packets came by loopback, whose index is 1 in every namespace.
const LOOPBACK: u32 = 1;
/// Stands for the namespace; none has this inode number.
const NETNS: u32 = 0;
/// A key of the hashes, which nobody attacks here.
const HASH_KEY: u64 = 0x9e37_79b9_7f4a_7c15;

fn load_empty() -> Result<Ebpf> {
    // A copy is aligned as the loader wants it.
    let aligned = EMPTY.to_vec();
    EbpfLoader::new().load(&aligned).context("load the programs that do nothing")
}

/// A program of an object, by name and type.
fn program<'a, T>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    program.try_into().with_context(|| name.to_owned())
}

/// A program that does nothing at each socket event. The kernel's statistics of it are what they hold besides a
/// program's work: the reading of a clock and the call, which are in the time of every run.
pub struct EmptySocketEvents(Ebpf);

impl EmptySocketEvents {
    /// Attaches it, beside tracker's own.
    pub fn attach() -> Result<Self> {
        let mut empty = load_empty()?;
        let program: &mut BtfTracePoint = program(&mut empty, EMPTY_SOCK)?;
        program.load("inet_sock_set_state", &Btf::from_sys_fs()?)?;
        program.attach()?;
        Ok(Self(empty))
    }

    /// How often it ran since it was loaded, and for how long in all.
    pub fn ran(&mut self) -> Result<(u64, Duration)> {
        let info = program::<BtfTracePoint>(&mut self.0, EMPTY_SOCK)?.info()?;
        Ok((info.run_count(), info.run_time()))
    }
}

/// An address as the maps have it.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A packet program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// An XDP program that does nothing.
    EmptyXdp,
    /// A classifier that does nothing.
    EmptyTc,
    /// tracker's XDP program.
    Xdp,
    /// tracker's classifier.
    Tc,
}

/// A program at the lookup of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupProgram {
    /// One that does nothing.
    Empty,
    /// tracker's.
    Tracker,
}

fn array<V: Pod>(object: &mut Ebpf, name: &str) -> Result<Array<MapData, V>> {
    let map = object.take_map(name).with_context(|| format!("no map {name}"))?;
    map.try_into().with_context(|| name.to_owned())
}

fn hash_map<K: Pod, V: Pod>(object: &mut Ebpf, name: &str) -> Result<HashMap<MapData, K, V>> {
    let map = object.take_map(name).with_context(|| format!("no map {name}"))?;
    map.try_into().with_context(|| name.to_owned())
}

/// tracker's program at the lookup of a socket, in a network namespace or in none.
pub struct AttachedLookup {
    object: Ebpf,
    link: Option<SkLookupLinkId>,
}

impl AttachedLookup {
    /// Loads it.
    pub fn load() -> Result<Self> {
        let mut object = EbpfLoader::new().load(OBJECT).context("load tracker's object")?;
        program::<SkLookup>(&mut object, names::PROGRAM_SK_LOOKUP)?.load()?;
        Ok(Self { object, link: None })
    }

    /// Attaches it.
    pub fn attach(&mut self, namespace: &Namespace) -> Result<()> {
        let file = std::fs::File::open(namespace.path())?;
        self.link = Some(program::<SkLookup>(&mut self.object, names::PROGRAM_SK_LOOKUP)?.attach(file)?);
        Ok(())
    }

    /// Takes it off again.
    pub fn detach(&mut self) -> Result<()> {
        if let Some(link) = self.link.take() {
            program::<SkLookup>(&mut self.object, names::PROGRAM_SK_LOOKUP)?.detach(link)?;
        }
        Ok(())
    }
}

/// Loaded packet programs with maps of their own.
pub struct ProgTestRun {
    object: Ebpf,
    empty: Ebpf,
    local_addresses: HashMap<MapData, [u8; 16], u8>,
    local_places: Array<MapData, AddrWords>,
    listeners: HashMap<MapData, ListenerKey, Listener>,
    slots: Array<MapData, Slot>,
    ports: Array<MapData, Port>,
    singles: Array<MapData, ExactListener>,
    interface_counters: PerCpuArray<MapData, InterfaceCounters>,
    listener_counters: PerCpuArray<MapData, ListenerCounters>,
    /// Slots that are taken.
    taken: u32,
    seen: InterfaceCounters,
}

impl ProgTestRun {
    /// Loads the programs. Each SYN is taken as from a random source.
    pub fn load() -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.override_global(names::HASH_KEY, &HASH_KEY, true);
        loader.override_global(names::SCATTER, &1_u32, true);
        loader.override_global(names::NETNS, &NETNS, true);
        let mut object = loader.load(OBJECT).context("load tracker's object")?;
        program::<Xdp>(&mut object, names::PROGRAM_XDP)?.load()?;
        program::<SchedClassifier>(&mut object, names::PROGRAM_TC)?.load()?;
        program::<SkLookup>(&mut object, names::PROGRAM_SK_LOOKUP)?.load()?;
        let mut empty = load_empty()?;
        program::<Xdp>(&mut empty, EMPTY_XDP)?.load()?;
        program::<SchedClassifier>(&mut empty, EMPTY_TC)?.load()?;
        program::<SkLookup>(&mut empty, EMPTY_SK_LOOKUP)?.load()?;
        let mut sampling: Array<_, Sampling> = array(&mut object, names::SAMPLING)?;
        sampling.set(0, Sampling { sources_at_lookup: 1, ..Sampling::default() }, 0)?;
        let mut interfaces: Array<_, Interface> = array(&mut object, names::INTERFACES)?;
        interfaces.set(LOOPBACK, Interface { index: LOOPBACK, slot: 1, flags: 0 }, 0)?;
        let counters = object.take_map(names::INTERFACE_COUNTERS).context("no counters")?;
        let listener_counters = object.take_map(names::LISTENER_COUNTERS).context("no counters")?;
        Ok(Self {
            local_addresses: hash_map(&mut object, names::LOCAL_ADDRESSES)?,
            local_places: array(&mut object, names::LOCAL_PLACES)?,
            listeners: hash_map(&mut object, names::LISTENERS)?,
            slots: array(&mut object, names::SLOTS)?,
            ports: array(&mut object, names::PORTS)?,
            singles: array(&mut object, names::EXACT_LISTENERS)?,
            interface_counters: counters.try_into()?,
            listener_counters: listener_counters.try_into()?,
            taken: 2,
            seen: InterfaceCounters::default(),
            object,
            empty,
        })
    }

    /// Makes an address local.
    pub fn add_local(&mut self, address: IpAddr) -> Result<()> {
        let address = octets(address);
        self.local_addresses.insert(address, 1, 0)?;
        let halves = hash::to_words(&address);
        self.local_places.set(hash::bucket_index(halves, 0, limits::LOCAL_PLACES.ilog2()), halves, 0)?;
        Ok(())
    }

    /// Makes the programs see a listener on one address. With `shared` it is not the one that stands in the table that
    /// they ask first.
    pub fn add_listener_at(&mut self, address: SocketAddr, shared: bool) -> Result<()> {
        let port = u32::from(address.port());
        let key = ListenerKey { netns: NETNS, port, address: octets(address.ip()), device: 0 };
        self.taken += 1;
        let slot = self.taken;
        self.listeners.insert(key, Listener { sockets: 1, slot, ..Listener::default() }, 0)?;
        let halves = hash::to_words(&key.address);
        self.slots.set(slot, Slot { sockets: 1, dual: 0, port, wildcard: 0, address: halves }, 0)?;
        let single = if shared { EXACT_SHARED } else { ExactListener::from(slot) + 1 };
        self.singles.set(listener::exact_index(halves, port), single, 0)?;
        self.ports.set(port, Port { specific: 1, ..Port::default() }, 0)?;
        Ok(())
    }

    /// Makes the programs see a listener on the wildcard of both families.
    pub fn add_listener(&mut self, port: u16) -> Result<()> {
        let port = u32::from(port);
        for (index, wildcard) in [(1, Slot::ANY_V4), (2, Slot::ANY_V6)] {
            self.slots.set(index, Slot { sockets: 1, dual: 0, port, wildcard, address: [0; 2] }, 0)?;
        }
        self.ports.set(port, Port { any_v4: 2, any_v6: 3, ..Port::default() }, 0)?;
        Ok(())
    }

    /// Runs a program `repeat` times on a frame of at least 14 bytes; returns the mean time of one run, which the
    /// kernel gives in whole nanoseconds.
    pub fn run(&mut self, run: Program, frame: &[u8], repeat: u32) -> Result<Duration> {
        let mut frame = frame.to_vec();
        if run == Program::Tc
            && let Some(destination) = frame.get_mut(..6)
        {
            // The kernel compares it with loopback's address, all zeros, and takes any other for another host's.
            destination.fill(0);
        }
        let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::default() };
        let result: Result<TestRunResult, _> = match run {
            Program::EmptyXdp => program::<Xdp>(&mut self.empty, EMPTY_XDP)?.test_run(options),
            Program::EmptyTc => program::<SchedClassifier>(&mut self.empty, EMPTY_TC)?.test_run(options),
            Program::Xdp => program::<Xdp>(&mut self.object, names::PROGRAM_XDP)?.test_run(options),
            Program::Tc => program::<SchedClassifier>(&mut self.object, names::PROGRAM_TC)?.test_run(options),
        };
        Ok(result.with_context(|| format!("run {run:?}"))?.duration)
    }

    /// Runs a program at the lookup of a socket `repeat` times; returns the mean time of one run.
    pub fn look_up(&mut self, run: LookupProgram, lookup: &SocketLookup, repeat: u32) -> Result<Duration> {
        let (object, name) = match run {
            LookupProgram::Empty => (&mut self.empty, EMPTY_SK_LOOKUP),
            LookupProgram::Tracker => (&mut self.object, names::PROGRAM_SK_LOOKUP),
        };
        sk_lookup::test_run(program::<SkLookup>(object, name)?.fd()?.as_fd(), lookup, repeat)
            .with_context(|| format!("run {run:?}"))
    }

    /// SYNs to the wildcard listener of IPv4 that were looked up so far.
    pub fn delivered(&self) -> Result<u64> {
        Ok(self.listener_counters.get(&1, 0)?.iter().map(|counters| counters.delivered).sum())
    }

    /// What was counted since the last call.
    pub fn counted(&mut self) -> Result<InterfaceCounters> {
        let mut since = InterfaceCounters::default();
        for cpu in self.interface_counters.get(&1, 0)?.iter() {
            add(&mut since, cpu, u64::wrapping_add);
        }
        let now = since;
        add(&mut since, &self.seen, u64::wrapping_sub);
        self.seen = now;
        Ok(since)
    }
}

/// Adds other counters, or takes them away.
fn add(counters: &mut InterfaceCounters, others: &InterfaceCounters, operation: fn(u64, u64) -> u64) {
    let packets = counters.packets.iter_mut().flatten().zip(others.packets.iter().flatten());
    let syns = counters.syns.iter_mut().flatten().zip(others.syns.iter().flatten());
    packets.chain(syns).for_each(|(counter, other)| *counter = operation(*counter, *other));
}
