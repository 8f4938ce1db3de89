//! For tests and benchmarks: the packet programs on frames of one's own, by `BPF_PROG_TEST_RUN`, which touches no interface;
//! and programs that do nothing, to measure what measuring costs.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::MapData,
    programs::{BtfTracePoint, SchedClassifier, TestRunResult, Xdp},
};
use tracker_common::{
    counters::{Interface, InterfaceCounters},
    hash,
    listener::{self, EXACT_SHARED, ExactListener, Listener, ListenerKey, Port, Slot, mapped},
    names,
};

use super::{Hook, Settings, SocketEvents, error::KernelError, local, maps::Maps, object};

static EMPTY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty"));

/// The kernel runs trials as if packets came by loopback, whose index is 1 in every namespace.
const LOOPBACK: u32 = 1;
/// Stands for the namespace of the trial; none has this inode number.
const NETNS: u32 = 0;

fn load_empty() -> Result<Ebpf, KernelError> {
    EbpfLoader::new().load(EMPTY).map_err(KernelError::Load)
}

/// A program that does nothing at each socket event. The kernel's statistics of it are what they hold besides a program's work: the
/// reading of a clock and the call, which are in the time of every run.
pub struct EmptySocketEvents(Ebpf);

impl EmptySocketEvents {
    const NAME: &str = "empty_sock";

    /// Attaches it, beside tracker's own.
    ///
    /// # Errors
    /// The kernel has no BTF or refuses the program.
    pub fn attach() -> Result<Self, KernelError> {
        let mut empty = load_empty()?;
        object::attach_tp_btf(&mut empty, Self::NAME)?;
        Ok(Self(empty))
    }

    /// How often it ran since it was loaded, and for how long in all.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ran(&mut self) -> Result<(u64, Duration), KernelError> {
        let program = object::program::<BtfTracePoint>(&mut self.0, Self::NAME)?;
        let info = program.info().map_err(|source| KernelError::Program { name: Self::NAME, source })?;
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

type Array<V> = aya::maps::Array<MapData, V>;

fn array<V: aya::Pod>(object: &mut Ebpf, name: &'static str) -> Result<Array<V>, KernelError> {
    let map = object.take_map(name).ok_or(KernelError::NoSuchMap(name))?;
    map.try_into().map_err(|source| KernelError::Map { name, source })
}

/// Loaded packet programs with maps of their own.
pub struct Trial {
    object: Ebpf,
    empty: Ebpf,
    maps: Maps,
    ports: Array<Port>,
    singles: Array<ExactListener>,
    /// Slots that are taken.
    slots: u32,
    seen: InterfaceCounters,
}

impl Trial {
    /// Loads the programs.
    pub fn load() -> Result<Self, KernelError> {
        let settings = Settings {
            interfaces: Vec::new(),
            hook: Hook::Auto,
            socket_events: SocketEvents::Auto,
            btf: None,
            lifetime_sample: 1,
            census_interval: Duration::from_secs(5),
            all_netns: false,
            trace_bind: false,
            kernel_log: false,
            sensitivity: tracker_model::detect::Sensitivity::Medium,
            record: None,
        };
        let mut object = object::open(&settings, NETNS, true)?;
        object::load_xdp(&mut object)?;
        object::load_tc(&mut object)?;
        let mut empty = load_empty()?;
        let name = "empty";
        object::program::<Xdp>(&mut empty, "empty_xdp")?.load().map_err(|source| KernelError::program(name, source))?;
        object::program::<SchedClassifier>(&mut empty, "empty_tc")?
            .load()
            .map_err(|source| KernelError::program(name, source))?;
        let (ports, singles) = (array(&mut object, names::PORTS)?, array(&mut object, names::EXACT_LISTENERS)?);
        let mut maps = Maps::take(&mut object)?;
        maps.interfaces.update(LOOPBACK, Interface { index: LOOPBACK, slot: 1, flags: 0 })?;
        Ok(Self { object, empty, maps, ports, singles, slots: 2, seen: InterfaceCounters::default() })
    }

    /// Makes an address local.
    pub fn add_local(&mut self, address: IpAddr) -> Result<(), KernelError> {
        local::add(&mut self.maps, &octets(address))
    }

    /// Makes the programs see a listener on one address. With `shared` it is not the one that stands in the table that they ask
    /// first.
    pub fn add_listener_at(&mut self, address: SocketAddr, shared: bool) -> Result<(), KernelError> {
        let port = u32::from(address.port());
        let key = ListenerKey { netns: NETNS, port, address: octets(address.ip()) };
        self.slots += 1;
        let slot = self.slots;
        let listener = Listener { sockets: 1, slot, ..Listener::default() };
        let wrong = |name| move |source| KernelError::Map { name, source };
        self.maps.listeners.update(key, listener)?;
        let halves = hash::to_words(&key.address);
        let seen = Slot { sockets: 1, dual: 0, port, wildcard: 0, address: halves };
        self.maps.slots.update(slot, seen)?;
        let single = if shared { EXACT_SHARED } else { ExactListener::from(slot) + 1 };
        self.singles.set(listener::exact_index(halves, port), single, 0).map_err(wrong(names::EXACT_LISTENERS))?;
        self.ports.set(port, Port { specific: 1, ..Port::default() }, 0).map_err(wrong(names::PORTS))
    }

    /// Makes the programs see a listener on the wildcard of both families.
    pub fn add_listener(&mut self, port: u16) -> Result<(), KernelError> {
        let port = u32::from(port);
        for (index, wildcard) in [(1, Slot::ANY_V4), (2, Slot::ANY_V6)] {
            let slot = Slot { sockets: 1, dual: 0, port, wildcard, address: [0; 2] };
            self.maps.slots.update(index, slot)?;
        }
        let entry = Port { any_v4: 2, any_v6: 3, ..Port::default() };
        self.ports.set(port, entry, 0).map_err(|source| KernelError::Map { name: names::PORTS, source })
    }

    /// Runs a program `repeat` times on a frame of at least 14 bytes; returns the mean time of one run, which the
    /// kernel gives in whole nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses the frame or the rights.
    pub fn run(&mut self, program: Program, frame: &[u8], repeat: u32) -> Result<Duration, KernelError> {
        let mut frame = frame.to_vec();
        if program == Program::Tc
            && let Some(destination) = frame.get_mut(..6)
        {
            // The kernel compares it with loopback's address, all zeros, and takes any other for another host's.
            destination.fill(0);
        }
        let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::default() };
        let result: Result<TestRunResult, _> = match program {
            Program::EmptyXdp => object::program::<Xdp>(&mut self.empty, "empty_xdp")?.test_run(options),
            Program::EmptyTc => object::program::<SchedClassifier>(&mut self.empty, "empty_tc")?.test_run(options),
            Program::Xdp => object::program::<Xdp>(&mut self.object, names::PROGRAM_XDP)?.test_run(options),
            Program::Tc => object::program::<SchedClassifier>(&mut self.object, names::PROGRAM_TC)?.test_run(options),
        };
        let name =
            if matches!(program, Program::Xdp | Program::EmptyXdp) { names::PROGRAM_XDP } else { names::PROGRAM_TC };
        result.map(|result| result.duration).map_err(|source| KernelError::Program { name, source })
    }

    /// What was counted since the last call.
    pub fn counted(&mut self) -> Result<InterfaceCounters, KernelError> {
        let now = self.maps.interface_counters.sum(1)?;
        let mut since = now;
        for (outcome, families) in since.packets.iter_mut().enumerate() {
            for (family, count) in families.iter_mut().enumerate() {
                *count -= self.seen.packets[outcome][family];
            }
        }
        for (target, families) in since.syns.iter_mut().enumerate() {
            for (family, count) in families.iter_mut().enumerate() {
                *count -= self.seen.syns[target][family];
            }
        }
        self.seen = now;
        Ok(since)
    }
}
