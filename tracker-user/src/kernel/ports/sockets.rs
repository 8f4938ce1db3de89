//! The sockets that hold a port, each with its processes: what `tracker explain` is answered from.
//!
//! Three passes: one over the TCP sockets, which knows `TIME_WAIT` and orphans, one over the UDP sockets unless a TCP
//! destination is asked for, and one over all descriptors, which knows the processes, and the sockets that are bound
//! and neither listen nor connect.

use std::{collections::HashMap, net::SocketAddr, ops::RangeInclusive};

use aya::Ebpf;
use tracker_common::{
    hash, names,
    socket::{NO_BUCKET, SocketQuery, SocketRecord},
};
use tracker_model::{
    explain::{Bucket, Protocol, SocketObservation, SocketQueues, TcpState},
    process::Process,
};

use super::clock::Jiffies;
use crate::kernel::{
    error::KernelError,
    iterator,
    maps::{Maps, name_of},
    sources::{address, octets},
};

/// Sockets that are looked at in one pass, at most: twice as many as there are ports.
const MAX_SOCKETS: u32 = 131_072;

/// Which sockets are wanted.
pub struct Wanted {
    /// Network namespace.
    pub netns: u32,
    /// With a local port of these.
    pub ports: RangeInclusive<u16>,
    /// Only those to this destination, and those on ports that `bind()` holds.
    pub destination: Option<SocketAddr>,
    /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds.
    pub reuse_delay_ms: u32,
}

/// Looks for them, in the namespace of the calling thread. True beside them when there were more than are looked at.
pub fn find(
    object: &mut Ebpf,
    maps: &mut Maps,
    jiffies: Jiffies,
    wanted: &Wanted,
) -> Result<(Vec<SocketObservation>, bool), KernelError> {
    let (mut sockets, mut any_truncated) = (Vec::new(), false);
    let mut by_inode: HashMap<u64, usize> = HashMap::new();
    for (name, target) in [
        (names::PROGRAM_TCP_AT, "bpf_iter/tcp"),
        (names::PROGRAM_UDP_AT, "bpf_iter/udp"),
        (names::PROGRAM_FILES_AT, "bpf_iter/task_file"),
    ] {
        if wanted.destination.is_some() && name == names::PROGRAM_UDP_AT {
            continue;
        }
        let (records, truncated) = pass(object, maps, wanted, name, target)?;
        any_truncated |= truncated;
        for record in records {
            let index = match by_inode.get(&record.inode) {
                // Sockets without a file are not one another.
                Some(index) if record.inode != 0 => *index,
                _ => {
                    sockets.push(socket(&record, jiffies));
                    by_inode.insert(record.inode, sockets.len() - 1);
                    sockets.len() - 1
                }
            };
            add_process(&mut sockets[index], &record);
        }
    }
    Ok((sockets, any_truncated))
}

fn add_process(socket: &mut SocketObservation, record: &SocketRecord) {
    let process = Process { pid: record.pid, comm: name_of(&record.comm) };
    if record.pid != 0 && !socket.processes.contains(&process) {
        socket.processes.push(process);
        socket.processes.sort_unstable_by_key(|process| process.pid);
    }
}

fn pass(
    object: &mut Ebpf,
    maps: &mut Maps,
    wanted: &Wanted,
    name: &'static str,
    target: &'static str,
) -> Result<(Vec<SocketRecord>, bool), KernelError> {
    let query = SocketQuery {
        destination: wanted.destination.map_or([0, 0], |to| hash::to_words(&octets(to.ip()))),
        netns: wanted.netns,
        most: MAX_SOCKETS,
        met: 0,
        reuse_delay_ms: wanted.reuse_delay_ms,
        low: *wanted.ports.start(),
        high: *wanted.ports.end(),
        destination_port: wanted.destination.map_or(0, |to| to.port()),
        all: u16::from(wanted.destination.is_none()),
    };
    maps.socket_query.update(0, query)?;
    let link = iterator::link(object, name, target)?;
    let io = |source| KernelError::Io { what: format!("read the sockets by {target}"), source };
    let mut file = iterator::open(link).map_err(io)?;
    let records = iterator::records(&mut file).map_err(io)?;
    let met = maps.socket_query.lookup(0)?.met;
    Ok((records, met > MAX_SOCKETS))
}

fn socket(record: &SocketRecord, jiffies: Jiffies) -> SocketObservation {
    let (local, remote) = (address(hash::to_octets(record.local)), address(hash::to_octets(record.remote)));
    let minisocket = record.left != u32::MAX;
    SocketObservation {
        protocol: if record.protocol == 17 { Protocol::Udp } else { Protocol::Tcp },
        ipv6: record.ipv6 != 0,
        ipv6_only: record.ipv6_only != 0,
        address: local,
        port: record.local_port,
        remote: (record.remote_port != 0).then_some((remote, record.remote_port)),
        state: state_of(record),
        reuse_address: record.reuse_address != 0,
        reuse_port: record.reuse_port != 0,
        uid: record.uid,
        device: record.device,
        inode: record.inode,
        bucket: (record.fastreuse != NO_BUCKET)
            .then_some(Bucket { fastreuse: record.fastreuse, fastreuseport: record.fastreuseport }),
        remaining: minisocket.then(|| jiffies.duration(record.left).unwrap_or_default()),
        timestamps: record.stamped != 0,
        recyclable: record.recyclable != 0,
        queues: (state_of(record) == TcpState::Listen).then_some(SocketQueues {
            accept_queue: record.accept_queue,
            accept_queue_max: record.accept_queue_max,
            syn_queue: record.syn_queue,
            syn_queue_young: record.syn_queue_young,
        }),
        range: record.range,
        processes: Vec::new(),
    }
}

fn state_of(record: &SocketRecord) -> TcpState {
    match TcpState::from_repr(record.state) {
        // Without a connection, but with a port.
        None | Some(TcpState::Close) => TcpState::Bound,
        Some(state) => state,
    }
}
