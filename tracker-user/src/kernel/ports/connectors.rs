//! Which processes connect to destinations that are short of ports: calls of `connect()`, failed ones too, counted by
//! socket events in turns of a minute, the time that a connection stays in `TIME_WAIT`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use tracker_common::{
    hash, limits,
    ports::{Connector, ConnectorKey, Watched},
};
use tracker_detect::ports::{PortSettings, TupleObservation};
use tracker_model::api::{PortMaker, PortRange};

use super::holders::TOP;
use crate::kernel::{
    error::KernelError,
    maps::{Maps, name_of},
    sources::{address, octets},
};

/// A turn.
const TURN: Duration = Duration::from_mins(1);
/// Ports that a destination uses before its connects are attributed.
const FROM: u32 = 16;

/// A destination and its port.
type Destination = (IpAddr, u16);

/// Connects by destination and process.
#[derive(Default)]
pub struct Connectors {
    watched: HashSet<Destination>,
    turn: Option<Instant>,
    /// Those of the turn before this.
    before: HashMap<(Destination, u32), Maker>,
    /// By the range that the last connection of each has set for itself too.
    both: HashMap<(Destination, Option<PortRange>), Vec<PortMaker>>,
}

/// A process that connects.
#[derive(Clone)]
struct Maker {
    caller: PortMaker,
    /// What the socket of its last call has set by `IP_LOCAL_PORT_RANGE`.
    range: u32,
}

impl Connectors {
    /// How many destinations are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Watches the destinations with the most ports, `tuples` being sorted so, and reads who connected.
    pub fn update(
        &mut self,
        maps: &mut Maps,
        tuples: &[TupleObservation],
        settings: &PortSettings,
    ) -> Result<(), KernelError> {
        self.watch(maps, tuples)?;
        let now = read(maps);
        let mut both: HashMap<(Destination, Option<PortRange>), HashMap<u32, PortMaker>> = HashMap::new();
        for ((destination, pid), Maker { caller, range }) in self.before.iter().chain(&now) {
            let own = settings.own_range(*range);
            for range in own.map(Some).into_iter().chain([None]) {
                let makers = both.entry((*destination, range)).or_default();
                let sum = makers.entry(*pid).or_insert_with(|| PortMaker { connects: 0, ..caller.clone() });
                sum.connects = sum.connects.saturating_add(caller.connects);
            }
        }
        self.both =
            both.into_iter().map(|(key, callers)| (key, PortMaker::most_first(callers.into_values(), TOP))).collect();
        if self.turn.is_none_or(|turn| turn.elapsed() >= TURN) {
            self.turn = Some(Instant::now());
            for (destination, pid) in now.keys() {
                // What was counted since it was read is lost to the turn, which is no exact figure anyway.
                let _ = maps.connectors.delete(&key(*destination, *pid));
            }
            self.before = now;
        }
        Ok(())
    }

    /// Those of a destination, most first; of those with a range of their own, those of that range.
    pub fn of_destination(&self, destination: IpAddr, port: u16, range: Option<PortRange>) -> Vec<PortMaker> {
        self.both.get(&((destination, port), range)).cloned().unwrap_or_default()
    }

    /// The ranges that connections to a destination have set for themselves of late.
    pub fn ranges(&self, destination: IpAddr, port: u16) -> impl Iterator<Item = PortRange> {
        self.both.keys().filter(move |(of, _)| *of == (destination, port)).filter_map(|(_, range)| *range)
    }

    fn watch(&mut self, maps: &mut Maps, tuples: &[TupleObservation]) -> Result<(), KernelError> {
        let many = |tuple: &&TupleObservation| tuple.states.iter().map(|count| u32::from(*count)).sum::<u32>() >= FROM;
        let wanted: HashSet<Destination> = tuples
            .iter()
            .filter(many)
            .map(|tuple| (tuple.destination, tuple.destination_port))
            .take(limits::WATCHED as usize / 2)
            .collect();
        for gone in self.watched.difference(&wanted) {
            maps.watched.delete(&watched(*gone))?;
        }
        for new in wanted.difference(&self.watched) {
            maps.watched.update(watched(*new), 1)?;
        }
        self.watched = wanted;
        Ok(())
    }
}

fn watched((destination, port): Destination) -> Watched {
    Watched { destination: hash::to_words(&octets(destination)), port: port.into(), padding: 0 }
}

fn key((destination, port): Destination, pid: u32) -> ConnectorKey {
    ConnectorKey { destination: hash::to_words(&octets(destination)), port: port.into(), pid }
}

fn read(maps: &Maps) -> HashMap<(Destination, u32), Maker> {
    let entry = |(key, maker): (ConnectorKey, Connector)| {
        let destination = (address(hash::to_octets(key.destination)), u16::try_from(key.port).unwrap_or_default());
        let connects = u32::try_from(maker.connects).unwrap_or(u32::MAX);
        let caller = PortMaker { pid: key.pid, comm: name_of(&maker.comm), connects };
        ((destination, key.pid), Maker { caller, range: maker.range })
    };
    maps.connectors.entries().map(entry).collect()
}
