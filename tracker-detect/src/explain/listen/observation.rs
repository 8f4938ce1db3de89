//! What was seen of a port while it was watched.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tracker_model::{
    counters::NamespaceCounters,
    explain::{DropCount, SocketObservation},
    listener::Listener,
    process::Process,
};

/// What was seen of a port. Counts are those of the watch.
#[derive(Clone, Debug, Default)]
pub struct ListenObservation {
    /// How long it was watched.
    pub watched: Duration,
    /// Whether the host has the address that is asked about; true for the wildcard.
    pub is_local: bool,
    /// The interface with that address, if one has it.
    pub on_interface: Option<AddressInterface>,
    /// Watched interfaces.
    pub interfaces: Vec<InterfaceObservation>,
    /// Interfaces that are not watched, loopback among them.
    pub unwatched: Vec<String>,
    /// Counts of IPv4 and of IPv6.
    pub families: [FamilyObservation; 2],
    /// Why the kernel does not tell which packets it drops, if so.
    pub drops_unknown: Option<String>,
    /// Sockets with this local port, those of UDP too, at the end.
    pub sockets: Vec<SocketObservation>,
    /// There are more of them than are looked at.
    pub truncated: bool,
    /// Names of devices by index.
    pub devices: BTreeMap<u32, String>,
    /// All listeners of the namespace at the begin and at the end.
    pub listeners: [Vec<Listener>; 2],
    /// TCP counters of the namespace at the begin and at the end.
    pub counters: Option<[NamespaceCounters; 2]>,
    /// SYNs that reached TCP at other ports, by listener or port without one: more than arrived there.
    pub elsewhere: Vec<Elsewhere>,
    /// What the namespace is set to.
    pub settings: ListenSettings,
}

/// The interface that has the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressInterface {
    /// Name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is watched.
    pub watched: bool,
}

/// A watched interface. SYNs are counted for IPv4 and IPv6.
#[derive(Clone, Debug, Default)]
pub struct InterfaceObservation {
    /// Name.
    pub name: String,
    /// Index of it, of those stacked on it, and of the VRF or bridge above: a socket bound to one of these takes its
    /// packets.
    pub devices: Vec<u32>,
    /// SYNs to the address and port that are asked about.
    pub asked: [u64; 2],
    /// SYNs to the port at other addresses of the host.
    pub other: [u64; 2],
    /// SYNs to the port at addresses of other hosts.
    pub not_local: [u64; 2],
    /// `rp_filter` of IPv4 as it is in force: 0, 1 (strict) or 2 (loose).
    pub rp_filter: Option<u8>,
    /// Whether an XDP program of somebody else's runs on it, before tracker sees a packet.
    pub other_xdp: bool,
}

/// Counts of one family.
#[derive(Clone, Debug, Default)]
pub struct FamilyObservation {
    /// SYNs that reached TCP at the address and port; none when that is not counted.
    pub delivered: Option<u64>,
    /// SYNs that the kernel dropped, by reason, most first.
    pub dropped: Vec<DropCount>,
    /// SYN-ACKs that the kernel dropped on their way out.
    pub answers_dropped: Vec<DropCount>,
    /// RSTs from the port that no socket sent.
    pub resets: u64,
    /// Packets that the namespace forwarded, of all ports (`ForwDatagrams`).
    pub forwarded: u64,
    /// "Unreachable" that the namespace sent by ICMP, for all ports (`OutDestUnreachs`).
    pub unreachables: u64,
}

/// SYNs that reached TCP at another port than they were sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Address of the listener; none for a port at which nothing listens.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Who listens there, if known.
    pub process: Option<Process>,
    /// How many.
    pub count: u64,
}

/// Settings of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenSettings {
    /// `net.ipv4.tcp_syncookies`: 0 off, 1 when a SYN queue is full, 2 always.
    pub syncookies: Option<u8>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u32>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`.
    pub abort_on_overflow: bool,
    /// Connections that the firewall keeps, and how many it may (`net.netfilter.nf_conntrack_count` and `_max`).
    pub conntrack: Option<(u64, u64)>,
    /// Packets that it dropped during the watch because its table was full.
    pub conntrack_drops: u64,
}

/// Listeners with more handshakes than SYNs: these came from another port, by translation.
#[must_use]
pub fn more_handshakes_than_syns(listeners: &[Vec<Listener>; 2], port: u16) -> Vec<Elsewhere> {
    let [before, after] = listeners;
    let taken = |now: &Listener| {
        let then = before.iter().find(|then| (then.netns, then.address, then.port) == (now.netns, now.address, now.port));
        let (syns, completed) = then.map_or((0, 0), |then| (then.syns_received, then.completed.total()));
        let (syns, completed) = (now.syns_received.saturating_sub(syns), now.completed.total().saturating_sub(completed));
        completed.saturating_sub(syns)
    };
    let others = after.iter().filter(|listener| listener.port != port && !listener.shares_slot);
    let all = others.map(|listener| Elsewhere {
        address: Some(listener.address),
        port: listener.port,
        process: listener.process.clone(),
        count: taken(listener),
    });
    all.filter(|elsewhere| elsewhere.count > 0).collect()
}
