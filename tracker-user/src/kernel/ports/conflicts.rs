//! Calls of `bind()` that were refused because the port is held, and by whom it is held.

use std::{
    cmp::Reverse,
    collections::HashMap,
    time::{Duration, Instant},
};

use aya::Ebpf;
use tracker_common::{hash, names, ports::BindFailureKey};
use tracker_model::{
    api::PortHolder,
    ports::{ConflictSeen, explain::Protocol},
    snapshot::Process,
};

use super::{
    clock::Jiffies,
    failures::Clock,
    sockets::{self, Wanted},
};
use crate::kernel::{
    error::KernelError,
    maps::{Maps, name_of},
    sources::address,
};

/// Between two looks for holders, each of which takes a pass over all descriptors of the host.
const PAUSE: Duration = Duration::from_secs(1);
/// Ports whose holders are looked for in one go.
const PORTS: usize = 4;

/// Conflicts, and who holds what.
#[derive(Default)]
pub struct Conflicts {
    /// By entry of the kernel side: how many calls it counted when the holders were looked for, and who they are.
    holders: HashMap<BindFailureKey, (u64, Vec<PortHolder>)>,
    looked: Option<Instant>,
    /// Calls in all, at the last look.
    pub count: u64,
}

impl Conflicts {
    /// All that there are, the last first. Holders are looked for in the namespace of the calling thread, `netns`.
    pub fn read(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        jiffies: Jiffies,
        netns: u32,
    ) -> Result<Vec<ConflictSeen>, KernelError> {
        let clock = Clock::now();
        let mut conflicts = Vec::new();
        let keys: Vec<BindFailureKey> = maps.bind_failures.keys().filter_map(Result::ok).collect();
        self.count = 0;
        for key in keys {
            let Ok(failure) = maps.bind_failures.get(&key, 0) else { continue };
            if clock.is_forgotten(failure.last) {
                maps.bind_failures
                    .remove(&key)
                    .map_err(|source| KernelError::Map { name: names::BIND_FAILURES, source })?;
                self.holders.remove(&key);
                continue;
            }
            self.count += failure.count;
            conflicts.push((key, failure));
        }
        self.look(
            object,
            maps,
            jiffies,
            netns,
            &conflicts.iter().map(|(key, failure)| (*key, failure.count)).collect::<Vec<_>>(),
        )?;
        conflicts.sort_by_key(|(_, failure)| Reverse(failure.last));
        let seen = |(key, failure): &(BindFailureKey, tracker_common::ports::Failure)| ConflictSeen {
            netns: key.netns,
            protocol: protocol_name(key.protocol),
            address: address(hash::address(key.address)),
            port: key.port,
            process: Process { pid: key.pid, comm: name_of(&failure.comm) },
            cgroup: failure.cgroup,
            uid: failure.uid,
            count: failure.count,
            first: clock.when(failure.first),
            last: clock.when(failure.last),
            holders: self.holders.get(key).map(|(_, holders)| holders.clone()).unwrap_or_default(),
        };
        Ok(conflicts.iter().map(seen).collect())
    }

    fn look(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        jiffies: Jiffies,
        netns: u32,
        conflicts: &[(BindFailureKey, u64)],
    ) -> Result<(), KernelError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return Ok(());
        }
        let grown = |(key, count): &&(BindFailureKey, u64)| {
            key.netns == netns && key.port != 0 && self.holders.get(key).is_none_or(|(then, _)| then < count)
        };
        let grown: Vec<_> = conflicts.iter().filter(grown).take(PORTS).copied().collect();
        for (key, count) in grown {
            self.looked = Some(Instant::now());
            let wanted = Wanted { netns, ports: key.port..=key.port, destination: None, reuse_delay_ms: 0 };
            let (sockets, _) = sockets::find(object, maps, jiffies, &wanted)?;
            let mut holders: HashMap<u32, PortHolder> = HashMap::new();
            let of_protocol = |protocol| u16::from(protocol == Protocol::Udp) == u16::from(key.protocol == UDP);
            for process in sockets.iter().filter(|socket| of_protocol(socket.protocol)).flat_map(|one| &one.processes) {
                let new = || PortHolder { pid: process.pid, comm: process.comm.clone(), ports: 0 };
                holders.entry(process.pid).or_insert_with(new).ports += 1;
            }
            let mut holders: Vec<_> = holders.into_values().collect();
            holders.sort_unstable_by_key(|holder| (Reverse(holder.ports), holder.pid));
            self.holders.insert(key, (count, holders));
        }
        Ok(())
    }
}

/// How many there are, of those that [`Conflicts::read`] gives.
pub fn count(maps: &Maps) -> u64 {
    maps.bind_failures.iter().filter_map(Result::ok).map(|(_, failure)| failure.count).sum()
}

const TCP: u16 = 6;
const UDP: u16 = 17;

fn protocol_name(protocol: u16) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        other => other.to_string(),
    }
}
