//! The answer of `tracker states`.

use std::collections::BTreeMap;

use tracker_common::{
    SOCKET_FAMILY_NAMES,
    counters::{CloseKind, SOCKET_FAMILIES, SocketCounters},
    state,
};

use tracker_model::{
    api::{Connects, States},
    errno,
    snapshot::Snapshot,
};

/// The answer of `GET /v1/states`.
#[must_use]
pub fn states(snapshot: &Snapshot) -> States {
    let sockets = &snapshot.sockets;
    States {
        taken_at: snapshot.taken_at,
        census_at: snapshot.census.map(|census| census.taken_at),
        states: snapshot.census.map(|census| {
            let by_family = by_family(|family| named_states(&census.counts.states[family]));
            BTreeMap::from([(snapshot.netns, by_family)])
        }),
        transitions: BTreeMap::from([(snapshot.netns, by_family(|family| transitions(&sockets.transitions[family])))]),
        closes: by_family(|family| {
            CloseKind::ALL
                .into_iter()
                .map(|kind| (kind.name().to_owned(), sockets.closes[family][kind as usize]))
                .collect()
        }),
        connects: connects(sockets),
        handshakes_completed: (0..SOCKET_FAMILIES).map(|family| handshakes_completed(sockets, family)).sum(),
    }
}

fn by_family<T>(of: impl Fn(usize) -> T) -> BTreeMap<String, T> {
    SOCKET_FAMILY_NAMES.into_iter().enumerate().map(|(family, name)| (name.to_owned(), of(family))).collect()
}

/// Number 0 is no state.
fn named_states(counts: &[u64; state::COUNT]) -> BTreeMap<String, u64> {
    state::NAMES.into_iter().zip(*counts).skip(1).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn transitions(counts: &[[u64; state::COUNT]; state::COUNT]) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (from, row) in state::NAMES.into_iter().zip(counts) {
        for (to, count) in state::NAMES.into_iter().zip(row) {
            if *count > 0 {
                named.insert(format!("{from}->{to}"), *count);
            }
        }
    }
    named
}

/// Handshakes completed as a server. A simultaneous open passes `SYN_RECV` too, but it comes from `SYN_SENT`.
fn handshakes_completed(sockets: &SocketCounters, family: usize) -> u64 {
    let counts = &sockets.transitions[family];
    counts[state::SYN_RECV as usize][state::ESTABLISHED as usize].saturating_sub(simultaneous_opens(sockets, family))
}

/// Calls of `connect()` that sent, or were about to send, a SYN.
#[must_use]
pub fn connects_attempted(sockets: &SocketCounters, family: usize) -> u64 {
    sockets.transitions[family][state::CLOSE as usize][state::SYN_SENT as usize]
}

/// Calls of `connect()` that were answered, simultaneous opens included.
#[must_use]
pub fn connects_established(sockets: &SocketCounters, family: usize) -> u64 {
    sockets.transitions[family][state::SYN_SENT as usize][state::ESTABLISHED as usize]
        + simultaneous_opens(sockets, family)
}

fn simultaneous_opens(sockets: &SocketCounters, family: usize) -> u64 {
    sockets.transitions[family][state::SYN_SENT as usize][state::SYN_RECV as usize]
}

fn connects(sockets: &SocketCounters) -> Connects {
    let mut connects = Connects::default();
    for family in 0..SOCKET_FAMILIES {
        connects.attempted += connects_attempted(sockets, family);
        connects.established += connects_established(sockets, family);
        for (number, count) in sockets.connect_failures[family].iter().enumerate() {
            if *count > 0 {
                *connects.failed.entry(errno::name(number)).or_default() += count;
            }
        }
    }
    connects
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;

    #[test]
    fn a_simultaneous_open_is_a_connect_and_no_handshake() {
        let mut snapshot = sample::snapshot();
        let before = states(&snapshot);
        snapshot.sockets.transitions[0][state::SYN_SENT as usize][state::SYN_RECV as usize] += 3;
        snapshot.sockets.transitions[0][state::SYN_RECV as usize][state::ESTABLISHED as usize] += 3;
        let after = states(&snapshot);
        assert_eq!(after.handshakes_completed, before.handshakes_completed);
        assert_eq!(after.connects.established, before.connects.established + 3);
    }
}
