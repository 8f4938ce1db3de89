//! Which processes make the connections to destinations that are short of ports: counted by socket events, in turns of
//! a minute, the time that a connection stays in `TIME_WAIT`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use tracker_common::{
    hash, limits,
    ports::{ConnectorKey, Watched},
};
use tracker_detect::ports::TupleObservation;
use tracker_model::api::PortHolder;

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
    before: HashMap<(Destination, u32), PortHolder>,
    both: HashMap<Destination, Vec<PortHolder>>,
}

impl Connectors {
    /// How many destinations are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Watches the destinations with the most ports, `tuples` being sorted so, and reads who connected.
    pub fn update(&mut self, maps: &mut Maps, tuples: &[TupleObservation]) -> Result<(), KernelError> {
        self.watch(maps, tuples)?;
        let now = read(maps);
        let mut both: HashMap<Destination, HashMap<u32, PortHolder>> = HashMap::new();
        for ((destination, pid), holder) in self.before.iter().chain(&now) {
            let sum = both
                .entry(*destination)
                .or_default()
                .entry(*pid)
                .or_insert_with(|| PortHolder { ports: 0, ..holder.clone() });
            sum.ports = sum.ports.saturating_add(holder.ports);
        }
        self.both = both
            .into_iter()
            .map(|(destination, holders)| (destination, PortHolder::most_first(holders.into_values(), TOP)))
            .collect();
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

    /// Those of a destination, most first.
    pub fn of_destination(&self, destination: IpAddr, port: u16) -> Vec<PortHolder> {
        self.both.get(&(destination, port)).cloned().unwrap_or_default()
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

fn read(maps: &Maps) -> HashMap<(Destination, u32), PortHolder> {
    let entry = |(key, maker): (ConnectorKey, tracker_common::ports::Connector)| {
        let destination = (address(hash::to_octets(key.destination)), u16::try_from(key.port).unwrap_or_default());
        let ports = u32::try_from(maker.connects).unwrap_or(u32::MAX);
        ((destination, key.pid), PortHolder { pid: key.pid, comm: name_of(&maker.comm), ports })
    };
    maps.connectors.entries().map(entry).collect()
}
