//! Handshakes for which no socket event came.

use procfs::{FromRead as _, net::Snmp};
use tracker_common::{
    counters::SocketCounters,
    state::{LISTEN, SYN_RECV},
};

/// That of the thread's namespace.
const FILE: &str = "/proc/thread-self/net/snmp";

/// Compares the kernel's count of connections that it made for listeners (`PassiveOpens`) with the events of them that
/// the programs counted: the kernel counts and sends the event in one place (`tcp_create_openreq_child`). A tracing
/// program is not always run: not where it is running already on that CPU, and some virtual machines run none while an
/// interrupt falls into certain processes.
#[derive(Debug, Default)]
pub struct MissedEvents {
    opened_before: Option<u64>,
    most: u64,
}

impl MissedEvents {
    /// Handshakes without an event since the first call, at least. `sockets` reads what the programs counted.
    pub fn count<E>(
        &mut self,
        opened: impl Fn() -> Option<u64>,
        sockets: impl FnOnce() -> Result<SocketCounters, E>,
    ) -> Result<(SocketCounters, u64), E> {
        // The kernel's count is read before the programs', so that one that comes in between is not missing there; the
        // first time after it, so that it is not missing for good.
        let now = self.opened_before.and_then(|_| opened());
        let sockets = sockets()?;
        let seen: u64 = sockets.transitions.iter().map(|table| table[usize::from(LISTEN)][usize::from(SYN_RECV)]).sum();
        match (self.opened_before, now) {
            (None, _) => self.opened_before = opened().map(|opened| opened.wrapping_sub(seen)),
            (Some(before), Some(now)) => {
                let missing = now.wrapping_sub(before).wrapping_sub(seen).cast_signed();
                self.most = self.most.max(missing.max(0).cast_unsigned());
            }
            _ => {}
        }
        Ok((sockets, self.most))
    }
}

/// Connections that the kernel made for the listeners of this thread's namespace so far.
pub fn passive_opens() -> Option<u64> {
    let warn = |error: &_| tracing::warn!("read {FILE}: {error}; handshakes without an event go unnoticed");
    let read = Snmp::from_file(FILE).inspect_err(warn);
    read.ok().map(|counters| counters.tcp_passive_opens)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn counters(events: u64) -> SocketCounters {
        let mut sockets = SocketCounters::default();
        sockets.transitions[0][usize::from(LISTEN)][usize::from(SYN_RECV)] = events - events / 3;
        sockets.transitions[1][usize::from(LISTEN)][usize::from(SYN_RECV)] = events / 3;
        sockets
    }

    fn look(missed: &mut MissedEvents, opened: Option<u64>, events: u64) -> u64 {
        missed.count(|| opened, || Ok::<_, Infallible>(counters(events))).unwrap().1
    }

    fn count(missed: &mut MissedEvents, opened: u64, events: u64) -> u64 {
        look(missed, Some(opened), events)
    }

    #[test]
    fn connections_without_an_event_are_counted() {
        let mut missed = MissedEvents::default();
        assert_eq!(count(&mut missed, 1_000, 3), 0, "those of before");
        assert_eq!(count(&mut missed, 1_010, 13), 0);
        assert_eq!(count(&mut missed, 1_020, 19), 4);
        assert_eq!(count(&mut missed, 1_030, 29), 4);
    }

    #[test]
    fn an_event_that_comes_between_the_readings_takes_nothing_back() {
        let mut missed = MissedEvents::default();
        count(&mut missed, 1_000, 0);
        assert_eq!(count(&mut missed, 1_010, 11), 0, "the programs were read later");
        assert_eq!(count(&mut missed, 1_020, 18), 2);
        assert_eq!(count(&mut missed, 1_020, 19), 2, "what was missing once is");
    }

    #[test]
    fn nothing_is_said_while_the_kernel_s_count_is_not_known() {
        let mut missed = MissedEvents::default();
        assert_eq!(look(&mut missed, None, 5), 0);
        assert_eq!(count(&mut missed, 1_000, 9), 0, "the first that is known");
        assert_eq!(count(&mut missed, 1_003, 9), 3);
        assert_eq!(look(&mut missed, None, 9), 3);
    }

    #[test]
    fn this_kernel_counts_them() {
        assert!(passive_opens().is_some());
    }
}
