//! The maps of the object: a row in this list for each. The kernel side declares the same map under the same name.

use crate::{
    counters::{Census, Interface, InterfaceCounters, SocketCounters},
    flows::{Flow, Sampling},
    hash::AddrWords,
    layout::{self, Layout},
    lifetimes::Bucket,
    listener::{
        ExactListener, Listener, ListenerCensus, ListenerCounters, ListenerKey, ListeningMark, Port, Slot, SlotOrder,
    },
    own_ranges::{OwnRange, RangedTuple},
    ports::{
        BindFailureKey, Connector, ConnectorKey, Failure, FailureKey, Holder, HolderKey, PortBuckets, PortPass,
        PortSource, PortTotals, PortTuple, Watched,
    },
    socket::SocketQuery,
    sources::{CompletedSample, HalfOpenSource, Registers, SourceSample},
    watch::{WatchedPorts, WatchedSyns},
};

/// Calls a macro with the list of all maps: those that the daemon reads or writes, as `field: Kind<types> = CONSTANT
/// "name";`, and those of the kernel side alone.
#[macro_export]
macro_rules! for_each_map {
    ($callback:ident) => {
        $callback! {
            shared {
                /// Watched interfaces, a direct-mapped table.
                interfaces: Array<Interface> = INTERFACES "INTERFACES";
                /// By slot of an interface.
                interface_counters: PerCpuArray<InterfaceCounters> = INTERFACE_COUNTERS "INTERFACE_CTRS";
                /// Set of local host addresses.
                local_addresses: HashMap<[u8; 16], u8> = LOCAL_ADDRESSES "LOCAL_ADDRS";
                /// Local addresses by `hash::bucket_index`; of several at one place only one.
                local_places: Array<AddrWords> = LOCAL_PLACES "LOCAL_PLACES";
                /// Local prefixes wider than a host, mapped form.
                local_prefixes: LpmTrie<[u8; 16], u8> = LOCAL_PREFIXES "LOCAL_PREFIXES";
                /// By slot of a listener.
                slots: Array<Slot> = SLOTS "SLOTS";
                /// By port: SYNs to local addresses without a listener.
                closed_ports: Mapped<u64> = CLOSED_PORTS "CLOSED_PORTS";
                /// By port: SYNs, whatever they were sent to, for which TCP found no listener there.
                closed_delivered: Mapped<u64> = CLOSED_DELIVERED "CLOSED_DELIVERED";
                /// By port: SYNs to local addresses without a listener that TCP looked up elsewhere.
                closed_diverted: Mapped<u64> = CLOSED_DIVERTED "CLOSED_DIVERTED";
                /// By slot of a listener: what the last SYN that was diverted here was sent to, as
                /// `delivery::Target::to_number`.
                diverted_from: Array<u32> = DIVERTED_FROM "DIVERTED_FROM";
                /// All listeners.
                listeners: HashMap<ListenerKey, Listener> = LISTENERS "LISTENERS";
                /// Queue of free listener slots.
                free_slots: Queue<u32> = FREE_SLOTS "FREE_SLOTS";
                /// Queue of slots that are kept for listeners that receive SYNs.
                reserved_slots: Queue<u32> = RESERVED_SLOTS "RESERVED_SLOTS";
                /// By `listener::shared_index`: SYNs and handshakes of listeners without a slot.
                shared_syns: Mapped<u64> = SHARED_SYNS "SHARED_SYNS";
                /// Slots that are to change hands.
                slot_orders: Array<SlotOrder> = SLOT_ORDERS "SLOT_ORDERS";
                /// By slot of a listener.
                listener_counters: PerCpuArray<ListenerCounters> = LISTENER_COUNTERS "LISTENER_CTRS";
                /// By slot of a listener.
                listener_census: Array<ListenerCensus> = LISTENER_CENSUS "LISTENER_CENSUS";
                /// By slot of a listener: how many sources.
                sources: Array<Registers> = SOURCES "SOURCES";
                /// By slot of a listener: some of the sources.
                source_samples: Array<SourceSample> = SOURCE_SAMPLES "SOURCE_SAMPLES";
                /// By slot of a listener: some of those that completed handshakes.
                completed_samples: Array<CompletedSample> = COMPLETED_SAMPLES "COMPLETED";
                /// One entry.
                sampling: Array<Sampling> = SAMPLING "SAMPLING";
                /// By hash of source and listener.
                half_open_sources: Mapped<HalfOpenSource> = HALF_OPEN_SOURCES "HALF_OPEN_SRCS";
                /// One entry.
                socket_counters: PerCpuArray<SocketCounters> = SOCKET_COUNTERS "SOCKET_CTRS";
                /// One entry.
                census: Array<Census> = CENSUS "CENSUS";
                /// One entry: number of the census under way.
                census_generation: Array<u32> = CENSUS_GENERATION "CENSUS_GEN";
                /// One entry: not 0 when a listener was opened that only a census can describe. The daemon sets it to
                /// 0.
                census_wanted: Array<u32> = CENSUS_WANTED "CENSUS_WANTED";
                /// One entry.
                port_pass: Array<PortPass> = PORT_PASS "PORT_PASS";
                /// By hash of the tuple.
                port_tuples: Mapped<PortTuple> = PORT_TUPLES "PORT_TUPLES";
                /// One entry.
                port_totals: Array<PortTotals> = PORT_TOTALS "PORT_TOTALS";
                /// One entry.
                port_buckets: Array<PortBuckets> = PORT_BUCKETS "PORT_BUCKETS";
                /// By hash of the address.
                port_sources: Array<PortSource> = PORT_SOURCES "PORT_SOURCES";
                /// By place in `PortPass::ranges` and what follows.
                port_ranges: Array<OwnRange> = PORT_RANGES "PORT_RANGES";
                /// Tuples that ranges are known of, and their places there.
                ranged: HashMap<RangedTuple, u64> = RANGED "RANGED";
                /// Sockets that processes hold.
                holders: HashMap<HolderKey, Holder> = HOLDERS "HOLDERS";
                /// One entry: the socket and the process that the pass over descriptors visited last.
                holders_last: Array<[u64; 2]> = HOLDERS_LAST "HOLDERS_LAST";
                /// Sockets that processes leak.
                leaks: HashMap<HolderKey, Holder> = LEAKS "LEAKS";
                /// Connects that got no port.
                connect_failures: HashMap<FailureKey, Failure> = CONNECT_FAILURES "CONNECT_FAILURES";
                /// Set of destinations whose connects are attributed to processes.
                watched: HashMap<Watched, u64> = WATCHED "WATCHED";
                /// Processes that connect to them.
                connectors: HashMap<ConnectorKey, Connector> = CONNECTORS "CONNECTORS";
                /// Calls of `bind()` that were refused.
                bind_failures: HashMap<BindFailureKey, Failure> = BIND_FAILURES "BIND_FAILURES";
                /// One entry.
                socket_query: Array<SocketQuery> = SOCKET_QUERY "SOCKET_QUERY";
                /// One entry: ports whose SYNs are counted for a while.
                watched_ports: Array<WatchedPorts> = WATCHED_PORTS "WATCHED_PORTS";
                /// By `watch::syns_index`.
                watched_syns: Mapped<WatchedSyns> = WATCHED_SYNS "WATCHED_SYNS";
                /// By `watch::drops_index`.
                watched_drops: Mapped<u64> = WATCHED_DROPS "WATCHED_DROPS";
                /// A counter for each `counters::Loss`.
                losses: PerCpuArray<u64> = LOSSES "LOSSES";
            }
            kernel {
                /// Who may listen, by port.
                Array<Port> = PORTS "PORTS";
                /// Listeners on single addresses, by `listener::exact_index`.
                Array<ExactListener> = EXACT_LISTENERS "EXACT_LISTENERS";
                /// SYNs on their way to TCP, by `delivery::index`, as `delivery::SynOrigin::to_bits`.
                Array<u64> = SYN_ORIGINS "SYN_ORIGINS";
                /// Listening sockets, each with its mark; the kernel keeps it with the socket.
                SkStorage<ListeningMark> = LISTENING "LISTENING";
                /// Connections of the sample, by `flows::index`.
                Array<Flow> = FLOWS "FLOWS";
                /// Connections that are timed, by `lifetimes::index`.
                Array<Bucket> = LIFETIMES "LIFETIMES";
                /// Calls of `bind()` under way, by thread: descriptor and where the address is.
                LruHashMap<u64, [u64; 2]> = BIND_CALLS "BIND_CALLS";
                /// Log lines of the kernel side, under the name that aya-log gives it.
                RingBuf<> = LOG "AYA_LOGS";
            }
        }
    };
}

macro_rules! constants {
    (
        shared { $(
            $(#[$meta:meta])*
            $field:ident: $kind:ident<$($type:ty),*> = $constant:ident $name:literal;
        )* }
        kernel { $(
            $(#[$kernel_meta:meta])*
            $kernel_kind:ident<$($kernel_type:ty),*> = $kernel_constant:ident $kernel_name:literal;
        )* }
    ) => {
        $( $(#[$meta])* pub const $constant: &str = $name; )*
        $( $(#[$kernel_meta])* pub const $kernel_constant: &str = $kernel_name; )*

        /// All maps of the object, besides the sections of globals.
        pub const MAPS: &[&str] = &[$( $name, )* $( $kernel_name, )*];

        /// Layout of each map: the hashes of the types of its keys and values.
        const LAYOUTS: &[(&str, &[u64])] = &[
            $( ($name, &[$( <$type as Layout>::HASH ),*]), )*
            $( ($kernel_name, &[$( <$kernel_type as Layout>::HASH ),*]), )*
        ];
    };
}
for_each_map!(constants);

/// A hash of the names and layouts of all maps: it tells a kernel object from another whose maps differ.
pub const ABI_HASH: u64 = {
    let mut hash = layout::BASIS;
    let mut map = 0;
    while map < LAYOUTS.len() {
        let (name, types) = LAYOUTS[map];
        hash = layout::hash_text(hash, name);
        let mut index = 0;
        while index < types.len() {
            hash = layout::hash_number(hash, types[index]);
            index += 1;
        }
        map += 1;
    }
    hash
};
