//! The queues of one listener, census by census.

use std::time::Duration;

use super::{history::Point, observation::QueuesObservation, settings::FRESH};
use crate::estimators::rate::float;
use tracker_model::counters::{HandshakeStats, ListenerQueues};

/// A state of the queues is lasting when two censuses so far apart, and those between them, saw it.
const LASTING: Duration = Duration::from_millis(900);
/// Queues older than this no longer say that the accept queue is full.
const STALE: Duration = Duration::from_secs(10);
/// Fewer old entries than this in a SYN queue are no flood, however short the queue is.
const LEAST_OLD: u32 = 16;
/// SYNs that go unanswered meanwhile, at least.
const LEAST_UNANSWERED: u64 = 2;

/// A backlog below this is small for a public service.
pub const SMALL_BACKLOG: u32 = 1_024;
/// What is turned away is summed up over this time, or twice this.
const BURST: Duration = Duration::from_secs(1);
/// Fewer in that time are no burst.
const LEAST_BURST: u64 = 20;

/// Since when the queues have been in some state. Each with the counters known at that census.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The first census that saw it.
    first: Option<(QueuesObservation, Point)>,
    /// One that saw it [`LASTING`] or more before the last.
    before: Option<(QueuesObservation, Point)>,
    /// The last.
    last: Option<(QueuesObservation, Point)>,
}

impl State {
    fn see(&mut self, is: bool, seen: QueuesObservation, point: Point) {
        if !is {
            *self = Self::default();
            return;
        }
        self.first.get_or_insert((seen, point));
        // Censuses may come more often than that: the older one stays until the last is late enough to take its place.
        if let Some(last) = self.last
            && self.before.is_none_or(|(before, _)| seen.at.saturating_sub(before.at) >= 2 * LASTING)
        {
            self.before = Some(last);
        }
        self.last = Some((seen, point));
    }

    /// Whether it lasts: the first census that saw it and the last are far enough apart.
    fn is_lasting(&self) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.first, self.last) else { return false };
        last.at.saturating_sub(first.at) >= LASTING
    }

    /// Whether it lasts, and SYNs went unanswered or were turned away meanwhile, more than `share` for each completion.
    fn lasts(&self, share: f64) -> bool {
        let (Some((first, before)), Some((last, now))) = (self.before, self.last) else { return false };
        let unanswered = now.unanswered.saturating_sub(before.unanswered);
        let dropped = last.queues.drops.saturating_sub(first.queues.drops);
        let count = unanswered.max(dropped);
        last.at.saturating_sub(first.at) >= LASTING
            && count >= LEAST_UNANSWERED
            && float(count) > share * float(now.completed.saturating_sub(before.completed))
    }
}

/// What the last censuses saw of a listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queues {
    last: Option<QueuesObservation>,
    /// The accept queue is full, or that of a socket of the group.
    full: State,
    /// The sample of its SYNs when it was not, the last time.
    calm: HandshakeStats,
    /// Two earlier readings of `drops`, [`BURST`] apart, the older first.
    drops: [Option<(Duration, u64)>; 2],
    /// It is beyond its limit, and the next connection is turned away (`sk_acceptq_is_full`).
    beyond: State,
    /// The SYN queue is filled with requests whose SYN-ACK was repeated: nobody answers them.
    filled: State,
}

impl Queues {
    /// Adds the queues of an observation, together with the last known counters.
    pub fn see(&mut self, seen: Option<QueuesObservation>, known: Point, flow: HandshakeStats) {
        let Some(seen) = seen.filter(|seen| self.last.is_none_or(|last| last.at < seen.at)) else { return };
        self.last = Some(seen);
        let now = Some((seen.at, seen.queues.drops));
        match self.drops {
            [_, Some((at, _))] if seen.at.saturating_sub(at) < BURST => {}
            [_, last] => self.drops = [last.or(now), now],
        }
        let full = is_full(&seen.queues) || seen.full > 0;
        if !full {
            self.calm = flow;
        }
        self.full.see(full, seen, known);
        self.beyond.see(seen.queues.accept_queue > seen.queues.accept_queue_max, seen, known);
        self.filled.see(is_filled(&seen.queues), seen, known);
    }

    /// The last queues.
    pub const fn last(&self) -> Option<QueuesObservation> {
        self.last
    }

    /// A burst of requests that a short queue turned away, more than fit into it: since when, and how many.
    pub fn burst(&self) -> Option<(Duration, u64)> {
        let (now, (at, before)) = (self.last?, self.drops[0]?);
        let count = now.queues.drops.saturating_sub(before);
        let backlog = now.queues.accept_queue_max;
        let recent = now.at.saturating_sub(at) <= 4 * BURST;
        (recent && backlog < SMALL_BACKLOG && count >= LEAST_BURST.max(backlog.into())).then_some((at, count))
    }

    /// Connections that clients have tried since the accept queue filled up and that were not made: each counts once,
    /// however often its SYN is repeated. An estimate; none while the queue is not full.
    pub fn waiting(&self, flow: HandshakeStats) -> Option<u64> {
        let open = |flow: HandshakeStats| flow.first.saturating_sub(flow.completed).saturating_sub(flow.aborted);
        self.full.first.map(|_| open(flow).saturating_sub(open(self.calm)))
    }

    /// Whether a full accept queue, if there is one, explains at least half of what goes unanswered. That of all its
    /// sockets does; where some of a group are full, it is what just these turn away.
    pub fn explain(&self) -> bool {
        let Some((now, last)) = self.full.last else { return true };
        if is_full(&now.queues) {
            return true;
        }
        let Some((before, point)) = self.full.before.or(self.full.first) else { return true };
        let unanswered = last.unanswered.saturating_sub(point.unanswered);
        now.dropped_full.saturating_sub(before.dropped_full).saturating_mul(2) >= unanswered
    }

    /// Age of what only a census counts.
    pub fn census_age(&self, at: Duration) -> Option<Duration> {
        self.last.map(|last| at.saturating_sub(last.census_at.unwrap_or(last.at)))
    }

    /// Their age.
    pub fn age(&self, at: Duration) -> Option<Duration> {
        self.last.map(|last| at.saturating_sub(last.at))
    }

    /// Whether the accept queue was full a moment ago.
    pub fn full_now(&self, at: Duration) -> bool {
        self.full.last.is_some_and(|(seen, _)| at.saturating_sub(seen.at) <= FRESH)
    }

    /// Whether the accept queue is full for all that is known.
    pub fn stays_full(&self, at: Duration) -> bool {
        self.full.last.is_some_and(|(seen, _)| at.saturating_sub(seen.at) <= STALE)
    }

    /// Whether the accept queue has been full for a while and connections are turned away.
    pub fn overflows(&self, at: Duration) -> bool {
        self.stays_full(at) && self.full.lasts(0.0)
    }

    /// Whether the SYN queue has been filled with old requests for a while and more SYNs go unanswered: a flood so slow
    /// that of the kernel's counters only that of repeated SYN-ACKs shows it.
    pub fn slow_flood(&self, share: f64) -> bool {
        self.filled.lasts(share)
    }

    /// Whether the SYN queue is filled with old requests.
    pub const fn filled(&self) -> bool {
        self.filled.first.is_some()
    }

    /// Whether a second look would help.
    pub const fn suspicious(&self) -> bool {
        self.full.first.is_some() || self.filled()
    }

    /// Whether the accept queue has been full for a while: two censuses saw it.
    pub fn is_stuck(&self, at: Duration) -> bool {
        self.stays_full(at) && self.full.is_lasting()
    }

    /// Whether the next connection is sure to be turned away, and has been for a while, whether one comes or not.
    pub fn turns_away(&self, at: Duration) -> bool {
        self.stays_full(at) && self.beyond.is_lasting()
    }

    /// The counters when the present state was first seen.
    pub fn since(&self) -> Option<Point> {
        let (seen, point) = self.full.first.or(self.filled.first)?;
        Some(Point { at: seen.at, drops: Some(seen.queues.drops), drops_at: seen.at, ..point })
    }
}

/// Whether the next connection may be turned away (`sk_acceptq_is_full`: longer than its limit; a census that comes
/// between an accept and the next ACK sees one less).
fn is_full(queues: &ListenerQueues) -> bool {
    queues.accept_queue > 0 && queues.accept_queue >= queues.accept_queue_max
}

/// Whether three quarters of the SYN queue are taken, most of it by requests whose SYN-ACK was repeated. Behind a full
/// accept queue requests grow old without a flood.
fn is_filled(queues: &ListenerQueues) -> bool {
    let old = queues.syn_queue.saturating_sub(queues.syn_queue_young);
    // An old recording does not have it.
    let most = if queues.syn_queue_max == 0 { queues.accept_queue_max } else { queues.syn_queue_max };
    let taken = u64::from(queues.syn_queue) * 4 >= u64::from(most) * 3;
    !is_full(queues) && taken && old >= LEAST_OLD && u64::from(old) * 2 > u64::from(queues.syn_queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(millisecond: u64, queues: ListenerQueues) -> QueuesObservation {
        QueuesObservation { at: Duration::from_millis(millisecond), queues, ..QueuesObservation::default() }
    }

    fn see(queues: &mut Queues, seen: Option<QueuesObservation>, point: Point) {
        queues.see(seen, point, HandshakeStats::default());
    }

    fn unanswered(unanswered: u64) -> Point {
        Point { unanswered, ..Point::default() }
    }

    fn full() -> ListenerQueues {
        ListenerQueues { syn_queue_max: 128, accept_queue: 129, accept_queue_max: 128, ..ListenerQueues::default() }
    }

    #[test]
    fn a_full_accept_queue_overflows_when_it_lasts_and_turns_away() {
        let mut queues = Queues::default();
        let at = Duration::from_secs(5);
        see(&mut queues, Some(seen(4_000, full())), unanswered(0));
        assert!(queues.suspicious() && queues.full_now(at) && !queues.overflows(at));
        see(&mut queues, Some(seen(4_500, full())), unanswered(0));
        assert!(!queues.is_stuck(at), "for half a second");
        see(&mut queues, Some(seen(5_000, full())), unanswered(0));
        assert!(!queues.overflows(at), "nobody was turned away");
        assert!(queues.is_stuck(at) && queues.turns_away(at), "but the next one will be");
        see(&mut queues, Some(seen(5_500, ListenerQueues { drops: 9, ..full() })), unanswered(0));
        assert!(queues.overflows(Duration::from_secs(6)));
        see(&mut queues, Some(seen(6_000, ListenerQueues { accept_queue: 3, ..full() })), unanswered(9));
        assert!(!queues.suspicious());
    }

    #[test]
    fn a_syn_queue_of_old_requests_is_a_slow_flood() {
        let old = ListenerQueues { syn_queue: 100, syn_queue_young: 20, accept_queue: 0, ..full() };
        let mut queues = Queues::default();
        see(&mut queues, Some(seen(1_000, old)), unanswered(10));
        see(&mut queues, Some(seen(1_000, old)), unanswered(20));
        assert!(queues.filled() && !queues.slow_flood(0.2));
        see(&mut queues, Some(seen(6_000, old)), unanswered(35));
        assert!(queues.slow_flood(0.2));
        see(&mut queues, Some(seen(7_000, ListenerQueues { syn_queue_young: 90, ..old })), unanswered(40));
        assert!(!queues.filled(), "young requests are a surge");
    }

    /// One of four sockets is full, at eight connections.
    fn one_full(millisecond: u64, dropped_full: u64) -> QueuesObservation {
        let queues = ListenerQueues { accept_queue: 9, accept_queue_max: 32, drops: dropped_full, ..full() };
        QueuesObservation { full: 1, dropped_full, ..seen(millisecond, queues) }
    }

    #[test]
    fn one_full_socket_of_a_group_overflows_though_the_sum_does_not() {
        let mut queues = Queues::default();
        see(&mut queues, Some(one_full(1_000, 0)), unanswered(0));
        see(&mut queues, Some(one_full(2_000, 5)), unanswered(5));
        assert!(queues.overflows(Duration::from_secs(2)) && queues.explain());
        see(&mut queues, Some(QueuesObservation { full: 0, ..one_full(3_000, 5) }), unanswered(5));
        assert!(!queues.overflows(Duration::from_secs(3)) && !queues.full_now(Duration::from_secs(3)));
    }

    #[test]
    fn one_full_socket_of_a_group_does_not_explain_a_flood_of_it() {
        let mut queues = Queues::default();
        for step in 0..8 {
            // A quarter of the SYNs fall to the one.
            see(&mut queues, Some(one_full(1_000 + 250 * step, 187 * step)), unanswered(750 * step));
        }
        assert!(!queues.explain());
        let mut alone = Queues::default();
        for step in 0..8 {
            see(&mut alone, Some(seen(1_000 + 250 * step, full())), unanswered(750 * step));
        }
        assert!(alone.explain(), "all that comes is turned away by the only socket");
    }

    #[test]
    fn a_burst_that_does_not_fit_is_one_for_a_few_seconds() {
        let mut queues = Queues::default();
        let calm = |drops| ListenerQueues { accept_queue: 0, accept_queue_max: 8, drops, ..full() };
        for second in 0..4 {
            see(&mut queues, Some(seen(1_000 * second, calm(5))), unanswered(0));
            assert_eq!(queues.burst(), None);
        }
        see(&mut queues, Some(seen(4_000, calm(205))), unanswered(0));
        assert_eq!(queues.burst(), Some((Duration::from_secs(3), 200)));
        for second in 5..8 {
            see(&mut queues, Some(seen(1_000 * second, calm(205))), unanswered(0));
        }
        assert_eq!(queues.burst(), None);
        see(&mut queues, Some(seen(9_000, ListenerQueues { accept_queue_max: 4_096, ..calm(9_000) })), unanswered(0));
        assert_eq!(queues.burst(), None, "such a backlog is not short");
    }

    #[test]
    fn clients_that_wait_count_once_and_since_the_queue_is_full() {
        let flow =
            |first, repeated, completed| HandshakeStats { first, repeated, completed, ..HandshakeStats::default() };
        let mut queues = Queues::default();
        let calm = ListenerQueues { accept_queue: 0, ..full() };
        queues.see(Some(seen(1_000, calm)), unanswered(0), flow(100, 3, 98));
        assert_eq!(queues.waiting(flow(100, 3, 98)), None);
        queues.see(Some(seen(2_000, full())), unanswered(0), flow(110, 3, 101));
        assert_eq!(queues.waiting(flow(110, 3, 101)), Some(7));
        queues.see(Some(seen(9_000, full())), unanswered(0), flow(110, 31, 101));
        assert_eq!(queues.waiting(flow(110, 31, 101)), Some(7), "repeats are no clients");
    }
}
