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
    /// SYNs to the port that reached TCP there while nothing listened; none when the kernel does not show what reaches
    /// TCP.
    pub without_listener: Option<WithoutListener>,
    /// Where TCP looked for a listener of SYNs that were sent to this port.
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

/// SYNs to a port while nothing listened there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithoutListener {
    /// TCP looked for a listener at the port.
    pub delivered: u64,
    /// TCP looked for one elsewhere.
    pub diverted: u64,
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
    /// Handshakes that were completed there.
    pub handshakes: u64,
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

/// Listeners that got SYNs which were sent to `port`, by translation or by a transparent proxy. Where the kernel does
/// not show what reaches TCP these are listeners with more handshakes than SYNs.
#[must_use]
pub fn went_elsewhere(listeners: &[Vec<Listener>; 2], port: u16) -> Vec<Elsewhere> {
    let [before, after] = listeners;
    let begun = |now: &Listener| before.iter().find(|then| then.is_same(now));
    let grown = |now: &Listener, of: fn(&Listener) -> u64| of(now).saturating_sub(begun(now).map_or(0, of));
    let count = |now: &Listener| match now.delivery {
        Some(_) if now.diverted_from != Some(port) => 0,
        Some(_) => grown(now, |of| of.delivery.map_or(0, |delivery| delivery.diverted_here)),
        None => grown(now, |of| of.completed.total()).saturating_sub(grown(now, |of| of.syns_received)),
    };
    let others = after.iter().filter(|listener| listener.port != port && !listener.shares_slot);
    let all = others.map(|listener| Elsewhere {
        address: Some(listener.address),
        port: listener.port,
        process: listener.process.clone(),
        count: count(listener),
        handshakes: grown(listener, |of| of.completed.total()),
    });
    all.filter(|elsewhere| elsewhere.count > 0).collect()
}
