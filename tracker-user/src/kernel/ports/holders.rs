//! Which process holds which ports, and which leaks sockets: one pass over all descriptors of all processes.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use aya::Ebpf;
use tracker_common::{
    hash::{self, AddrWords},
    limits, names,
    ports::{HELD_CLOSE_WAIT, HELD_RANGES, HELD_UDP},
};
use tracker_detect::{detector::LeakObservation, ports::PortSet};
use tracker_model::api::{PortHolder, PortRange};

use super::clock::Jiffies;
use crate::kernel::{
    error::KernelError,
    iterator,
    maps::{Maps, name_of},
    pace,
    sources::address,
};

/// Between two passes.
const PAUSE: Duration = Duration::from_secs(15);
/// The pause while ports are running out.
const HOT_PAUSE: Duration = Duration::from_secs(1);
/// The pause when somebody asks.
const ASKED_PAUSE: Duration = Duration::from_millis(250);

/// Why a pass may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Another census.
    None,
    /// Ports are running out.
    Hot,
    /// Somebody waits for the answer.
    Asked,
}

/// Processes of a tuple that are named.
pub const TOP: usize = 10;

/// Source, destination and port, and a range that sockets of them have set for themselves.
type Held = (IpAddr, IpAddr, u16, Option<PortRange>);

/// What the last pass found.
#[derive(Default)]
pub struct Holders {
    last: Option<Instant>,
    took: Duration,
    tuples: HashMap<Held, Vec<PortHolder>>,
    /// Processes that may leak.
    pub leaks: Vec<LeakObservation>,
    /// Whether these are all.
    pub leaks_complete: bool,
    /// Ephemeral ports of sockets that are bound and neither listen nor connect.
    pub idle: PortSet,
    /// Processes with UDP sockets on ephemeral ports, most first.
    pub udp: Vec<PortHolder>,
}

impl Holders {
    /// Whether it is time for another pass.
    pub fn is_due(&self, urgency: Urgency) -> bool {
        let pause = match urgency {
            Urgency::None => PAUSE,
            Urgency::Hot => HOT_PAUSE,
            Urgency::Asked => ASKED_PAUSE,
        };
        pace::is_due(self.last, self.took, pause, urgency == Urgency::Asked)
    }

    /// Takes a pass over the table that the last census left.
    pub fn take(&mut self, object: &mut Ebpf, maps: &mut Maps, jiffies: Jiffies) -> Result<(), KernelError> {
        let begun = Instant::now();
        clear(maps)?;
        iterator::run(object, names::PROGRAM_HOLDERS, "bpf_iter/task_file")?;
        self.read(maps, jiffies);
        let totals = maps.port_totals.lookup(0)?;
        self.idle = PortSet::from(&totals.idle);
        (self.last, self.took) = (Some(Instant::now()), begun.elapsed());
        Ok(())
    }

    /// Those of a tuple, of ports in a range if it is one that its sockets have set for themselves.
    pub fn of_tuple(
        &self,
        source: IpAddr,
        destination: IpAddr,
        port: u16,
        range: Option<PortRange>,
    ) -> Vec<PortHolder> {
        self.tuples.get(&(source, destination, port, range)).cloned().unwrap_or_default()
    }

    fn read(&mut self, maps: &Maps, jiffies: Jiffies) {
        self.tuples.clear();
        self.udp.clear();
        for (key, holder) in maps.holders.entries() {
            let held = PortHolder { pid: key.pid, comm: name_of(&holder.comm), ports: holder.sockets };
            if key.what == HELD_UDP {
                self.udp.push(held);
            } else if let Some((source, destination, port, range)) = what(maps, key.what) {
                let [source, destination] = [source, destination].map(|halves| address(hash::to_octets(halves)));
                self.tuples.entry((source, destination, port, range)).or_default().push(held);
            }
        }
        for holders in self.tuples.values_mut().chain([&mut self.udp]) {
            *holders = PortHolder::most_first(std::mem::take(holders), TOP);
        }
        self.read_leaks(maps, jiffies);
    }

    fn read_leaks(&mut self, maps: &Maps, jiffies: Jiffies) {
        let mut leaks: HashMap<u32, LeakObservation> = HashMap::new();
        let mut entries = 0;
        for (key, held) in maps.leaks.entries() {
            entries += 1;
            let new = || LeakObservation { pid: key.pid, comm: name_of(&held.comm), ..LeakObservation::default() };
            let leak = leaks.entry(key.pid).or_insert_with(new);
            let quiet = jiffies.duration(held.quietest).unwrap_or_default();
            if key.what == HELD_CLOSE_WAIT {
                (leak.close_wait, leak.close_wait_oldest) = (held.sockets, quiet);
            } else {
                (leak.fin_wait2, leak.fin_wait2_oldest) = (held.sockets, quiet);
            }
        }
        self.leaks = leaks.into_values().collect();
        self.leaks.sort_unstable_by_key(|leak| leak.pid);
        self.leaks_complete = entries < limits::LEAKS;
    }
}

/// The tuple, and the range of it, that an entry is about.
fn what(maps: &Maps, number: u32) -> Option<(AddrWords, AddrWords, u16, Option<PortRange>)> {
    if (HELD_RANGES..HELD_UDP).contains(&number) {
        let range = maps.port_ranges.lookup(number - HELD_RANGES).ok()?;
        let own = PortRange { low: range.low, high: range.high };
        return Some((range.source, range.destination, range.port, Some(own)));
    }
    let tuple = maps.port_tuples.get(usize::try_from(number).ok()?)?;
    Some((tuple.source, tuple.destination, tuple.port, None))
}

fn clear(maps: &mut Maps) -> Result<(), KernelError> {
    maps.holders_last.update(0, [0; 2])?;
    maps.holders.delete_where(|_, _| true)?;
    maps.leaks.delete_where(|_, _| true)
}
