//! From the counters of a listener to points of its history.

use std::time::Duration;

use super::{history::Point, observation::ListenerObservation};

/// What is kept of a listener's counters between two observations.
#[derive(Debug, Default)]
pub struct Counters {
    completed: u64,
    answered: u64,
    repeated: u64,
    /// Repeats and undelivered SYNs at the last observation.
    last: Option<(u64, u64)>,
    census: Option<Census>,
}

/// The counters when a census was taken.
#[derive(Clone, Copy, Debug)]
struct Census {
    at: Duration,
    syns: u64,
    done: u64,
    waiting: u64,
}

impl Counters {
    /// The point of an observation. A client that completed its handshake and speaks late floods nobody, nor does one
    /// that only asked whether the port is open.
    pub fn point(&mut self, seen: &ListenerObservation, at: Duration) -> Point {
        if seen.completed < self.completed {
            *self = Self::default();
        }
        self.completed = seen.completed;
        let done = seen.completed.saturating_add(seen.aborted);
        self.answered = self.answered.max(done.saturating_add(self.waiting(seen, done)));
        self.count_repeats(seen);
        Point {
            at,
            syns: seen.syns,
            completed: seen.completed,
            answered: self.answered,
            unanswered: 0,
            repeated: self.repeated,
            undelivered: seen.undelivered,
            drops: seen.queues.map(|seen| seen.queues.drops),
            drops_at: seen.queues.map_or(Duration::ZERO, |seen| seen.at),
        }
    }

    /// Requests that wait for the first data: as many as at the last census, less those that have completed since and
    /// were not followed by others.
    fn waiting(&mut self, seen: &ListenerObservation, done: u64) -> u64 {
        let Some(queues) = seen.queues else { return 0 };
        let waiting = queues.queues.waiting_for_data.into();
        let now = Census { at: queues.census_at.unwrap_or(queues.at), syns: seen.syns, done, waiting };
        let census = self.census.filter(|census| census.at == now.at).unwrap_or(now);
        self.census = Some(census);
        let come = seen.syns.saturating_sub(census.syns);
        let gone = done.saturating_sub(census.done);
        census.waiting.min(census.waiting.saturating_add(come).saturating_sub(gone))
    }

    /// A repeat that finds its request is not looked up, and so not among the SYNs.
    fn count_repeats(&mut self, seen: &ListenerObservation) {
        let now = (seen.sample.repeated, seen.undelivered);
        let (repeated, undelivered) = self.last.replace(now).unwrap_or(now);
        let new = now.0.saturating_sub(repeated).saturating_sub(now.1.saturating_sub(undelivered));
        self.repeated = self.repeated.saturating_add(new);
    }
}

/// What 95 % of a listener's handshakes took at most, microseconds. Where it waits for the first data, the kernel
/// counts that in: it says nothing of how long clients take to acknowledge.
pub fn handshake_time(seen: &ListenerObservation) -> Option<u64> {
    let defers = seen.queues.is_some_and(|seen| seen.queues.defer_accept > 0);
    seen.handshake_p95_us.filter(|_| !defers)
}

#[cfg(test)]
mod tests {
    use tracker_model::counters::{HandshakeStats, ListenerQueues};

    use super::*;
    use crate::syn::{ListenerId, QueuesObservation};

    fn seen(census: u64, syns: u64, completed: u64, waiting_for_data: u32) -> ListenerObservation {
        let queues = ListenerQueues { waiting_for_data, ..ListenerQueues::default() };
        let at = Duration::from_secs(census);
        ListenerObservation {
            syns,
            completed,
            queues: Some(QueuesObservation { at, queues, ..QueuesObservation::default() }),
            id: ListenerId { netns: 1, address: [0; 4].into(), port: 80, device: 0 },
            undelivered: 0,
            drop_reasons: Vec::new(),
            aborted: 0,
            handshake_p95_us: None,
            sample: HandshakeStats::default(),
            device: None,
            worst_socket: None,
            sources: None,
        }
    }

    #[test]
    fn who_waits_for_data_is_answered_once() {
        let mut counters = Counters::default();
        let mut answered = |seen: &ListenerObservation| counters.point(seen, Duration::ZERO).answered;
        assert_eq!(answered(&seen(1, 300, 0, 300)), 300);
        assert_eq!(answered(&seen(1, 450, 150, 300)), 450, "as many have come as have gone");
        assert_eq!(answered(&seen(1, 450, 450, 300)), 450, "the load is over, and none waits");
        assert_eq!(answered(&seen(1, 600, 450, 300)), 600);
        assert_eq!(answered(&seen(2, 900, 450, 450)), 900);
    }

    #[test]
    fn what_was_undelivered_once_takes_no_repeat_away_later() {
        let mut counters = Counters::default();
        let mut repeated = |repeated, undelivered| {
            let sample = HandshakeStats { repeated, ..HandshakeStats::default() };
            let seen = ListenerObservation { undelivered, sample, ..seen(1, 0, 0, 0) };
            counters.point(&seen, Duration::ZERO).repeated
        };
        assert_eq!((repeated(7, 1_000_000), repeated(17, 1_000_000), repeated(20, 1_000_002)), (0, 10, 11));
    }
}
