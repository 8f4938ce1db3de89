//! Calls of `bind()` that were refused because the port is held, and by whom it is held.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aya::Ebpf;
use tracker_common::{
    hash, limits,
    ports::{BindFailureKey, Failure},
};
use tracker_detect::{
    explain::{BindRequest, explain_bind},
    ports::PortSettings,
};
use tracker_model::{
    api::{PortConflict, PortHolder},
    explain::Protocol,
    process::Process,
};

use super::{
    clock::Jiffies,
    failures::{self, Clock},
    sockets::{self, Wanted},
};
use crate::kernel::{
    error::KernelError,
    maps::{Maps, name_of},
    pace,
    sources::address,
};

/// Between two looks for holders, each of which takes a pass over all descriptors of the host.
const PAUSE: Duration = Duration::from_secs(1);

/// Conflicts, and who holds what.
#[derive(Default)]
pub struct Conflicts {
    /// By entry of the kernel side.
    holders: HashMap<BindFailureKey, Look>,
    looked: Option<Instant>,
    took: Duration,
    /// Calls in all, at the last look.
    pub count: u64,
}

/// Who held a port.
struct Look {
    at: Instant,
    /// Calls that had been counted then.
    count: u64,
    holders: Vec<PortHolder>,
}

impl Conflicts {
    /// All that there are, the last first. Holders are looked for in the namespace of the calling thread, `netns`.
    pub fn read(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        jiffies: Jiffies,
        netns: u32,
    ) -> Result<Vec<PortConflict>, KernelError> {
        let clock = Clock::now();
        let conflicts = failures::table(&mut maps.bind_failures, limits::BIND_FAILURES, &clock)?;
        self.count = conflicts.iter().map(|(_, failure)| failure.count).sum();
        let counts: HashMap<BindFailureKey, u64> =
            conflicts.iter().map(|(key, failure)| (*key, failure.count)).collect();
        self.holders.retain(|key, _| counts.contains_key(key));
        self.look(object, maps, jiffies, netns, &counts)?;
        let seen = |(key, failure): &(BindFailureKey, Failure)| PortConflict {
            netns: key.netns,
            protocol: protocol_name(key.protocol),
            address: address(hash::to_octets(key.address)),
            port: key.port,
            process: Process { pid: key.pid, comm: name_of(&failure.comm) },
            cgroup: failure.cgroup,
            uid: failure.uid,
            count: failure.count,
            first: clock.when(failure.first),
            last: clock.when(failure.last),
            holders: self.holders.get(key).map(|look| look.holders.clone()).unwrap_or_default(),
        };
        Ok(conflicts.iter().map(seen).collect())
    }

    fn look(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        jiffies: Jiffies,
        netns: u32,
        counts: &HashMap<BindFailureKey, u64>,
    ) -> Result<(), KernelError> {
        if !pace::is_due(self.looked, self.took, PAUSE, false) {
            return Ok(());
        }
        let is_known = |key: &BindFailureKey| matches!(key.protocol, TCP | UDP) && key.port != 0;
        let grown = |(key, count): &(&BindFailureKey, &u64)| {
            key.netns == netns && is_known(key) && self.holders.get(key).is_none_or(|look| look.count < **count)
        };
        // The one that was never looked at, or longest ago.
        let next = counts.iter().filter(grown).min_by_key(|(key, _)| self.holders.get(key).map(|look| look.at));
        let Some((&key, &count)) = next else { return Ok(()) };
        let at = Instant::now();
        let holders = holders(object, maps, jiffies, &key)?;
        self.holders.insert(key, Look { at, count, holders });
        (self.looked, self.took) = (Some(Instant::now()), at.elapsed());
        Ok(())
    }
}

/// The processes whose sockets are in the way of such a `bind()`, by the kernel's rules.
fn holders(
    object: &mut Ebpf,
    maps: &mut Maps,
    jiffies: Jiffies,
    key: &BindFailureKey,
) -> Result<Vec<PortHolder>, KernelError> {
    let wanted = Wanted { netns: key.netns, ports: key.port..=key.port, destination: None, reuse_delay_ms: 0 };
    let (sockets, _) = sockets::find(object, maps, jiffies, &wanted)?;
    let protocol = if key.protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
    let request = BindRequest {
        ipv6: key.family != 0,
        privileged: true,
        ..BindRequest::new(protocol, address(hash::to_octets(key.address)), key.port)
    };
    let answer = explain_bind(&request, &sockets, &PortSettings::default(), true);
    Ok(PortHolder::count(answer.holders.iter().flat_map(|holder| &holder.processes), usize::MAX))
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
