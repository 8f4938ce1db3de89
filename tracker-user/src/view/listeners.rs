//! The answer of `tracker listeners`.

use tracker_common::counters::SynTarget;

use tracker_model::{
    api::{Listener, Listeners, NoListener},
    counters::{ByFamily, ListenerQueues},
    snapshot::{self, Snapshot},
};

/// The answer of `GET /v1/listeners`.
#[must_use]
pub fn listeners(snapshot: &Snapshot) -> Listeners {
    let refused = snapshot.syns(SynTarget::NoListener);
    Listeners {
        taken_at: snapshot.taken_at,
        census_at: snapshot.census.map(|census| census.taken_at),
        listeners: snapshot.listeners.iter().map(listener).collect(),
        no_listener: NoListener {
            syns_received: refused.total(),
            syns_by_family: refused,
            ports: snapshot.no_listener.ports,
            top_ports: snapshot.no_listener.top_ports.clone(),
            syn_rate: snapshot.no_listener.syn_rate,
            top_sources: snapshot.floods.no_listener_sources.clone(),
            verdict: snapshot.floods.no_listener.map(|verdict| verdict.class),
            verdict_since: snapshot.floods.no_listener.and_then(|verdict| verdict.since),
            alert: snapshot.floods.no_listener.and_then(|verdict| verdict.alert),
        },
    }
}

fn listener(listener: &snapshot::Listener) -> Listener {
    let queue = |read: fn(&ListenerQueues) -> u32| listener.census.as_ref().map(read);
    let handshakes = ByFamily {
        ipv4: listener.completed.ipv4 + listener.completed_unwatched.ipv4,
        ipv6: listener.completed.ipv6 + listener.completed_unwatched.ipv6,
    };
    Listener {
        netns: listener.netns,
        address: listener.address.to_string(),
        port: listener.port,
        dual_stack: listener.dual_stack,
        process: listener.process.clone(),
        uid: listener.uid,
        sockets: listener.sockets,
        syns_received: listener.syns.total(),
        syns_by_family: listener.syns,
        syn_rate: listener.syn_rate,
        handshakes_completed: handshakes.total(),
        handshakes_by_family: handshakes,
        handshakes_unanswered: unanswered(listener),
        handshakes_expired: listener.census.map(|census| expired(listener, census.drops)),
        half_open: queue(|census| census.half_open),
        syn_queue: queue(|census| census.syn_queue),
        syn_queue_young: queue(|census| census.syn_queue_young),
        syn_queue_max: queue(|census| census.syn_queue_max),
        accept_queue: queue(|census| census.accept_queue),
        accept_queue_max: queue(|census| census.accept_queue_max),
        overflows: listener.census.map(|census| census.drops),
        connected: queue(|census| census.connected),
        verdict: listener.verdict.map(|verdict| verdict.class),
        verdict_since: listener.verdict.and_then(|verdict| verdict.since),
        alert: listener.verdict.and_then(|verdict| verdict.alert),
        syns_repeated: listener.sample.repeated,
        syns_repeated_error: listener.sample.repeated_error(),
        distinct_sources: listener.distinct_sources,
        half_open_sources: listener.half_open_sources.clone(),
        half_open_unnamed: listener.census.map_or(0, |census| census.half_open_unnamed),
    }
}

/// SYNs by watched interfaces that neither completed a handshake nor are half-open. The counters are read one after
/// the other, so the difference can be short of zero for a moment.
fn unanswered(listener: &snapshot::Listener) -> u64 {
    let half_open = listener.census.map_or(0, |census| u64::from(census.half_open));
    listener.syns.total().saturating_sub(listener.completed.total()).saturating_sub(half_open)
}

/// [`unanswered`] without SYNs of which no request was made, or not one of their own: those that were turned away, and
/// those that repeat another.
///
/// One SYN can be both, so the larger of the two counts and not their sum; of an estimate its lower end. That makes it a
/// bound from above, for each connection and so for all. A listener that is older than the daemon turned SYNs away that
/// nobody counted: of it none is known for sure to be among these.
fn expired(listener: &snapshot::Listener, drops: u64) -> u64 {
    let repeated = listener.sample.repeated.saturating_sub(listener.sample.repeated_error());
    let is_older = listener.uid.is_none();
    let turned_away = if is_older { 0 } else { drops };
    unanswered(listener).saturating_sub(repeated.max(turned_away))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::api::Class;

    #[test]
    fn a_listener_shows_its_counters_and_queues() {
        let answer = listeners(&sample::snapshot());
        let web = &answer.listeners[1];
        assert_eq!((web.address.as_str(), web.port, web.dual_stack), ("::", 443, true));
        assert_eq!((web.syns_received, web.syns_by_family), (150, ByFamily { ipv4: 100, ipv6: 50 }));
        assert_eq!(web.handshakes_completed, 90 + 40 + 2 + 1, "all interfaces");
        assert_eq!(web.handshakes_by_family, ByFamily { ipv4: 92, ipv6: 41 });
        assert_eq!(web.handshakes_unanswered, 150 - 130 - 5, "watched interfaces, without those still half-open");
        assert_eq!((web.half_open, web.syn_queue, web.connected), (Some(5), Some(4), Some(40)));
        assert_eq!((web.accept_queue, web.accept_queue_max, web.overflows), (Some(1), Some(511), Some(2)));
    }

    #[test]
    fn a_listener_opened_after_the_census_has_no_queues_yet() {
        let answer = listeners(&sample::snapshot());
        let ssh = &answer.listeners[0];
        assert_eq!(ssh.address, "192.0.2.1");
        assert_eq!((ssh.half_open, ssh.accept_queue, ssh.overflows, ssh.connected), (None, None, None, None));
        assert_eq!((ssh.process.as_ref(), ssh.uid), (None, None));
    }

    #[test]
    fn no_more_are_unanswered_than_were_received() {
        let mut snapshot = sample::snapshot();
        snapshot.listeners[1].completed.ipv4 = 1_000;
        assert_eq!(listeners(&snapshot).listeners[1].handshakes_unanswered, 0);
    }

    #[test]
    fn expired_are_those_that_were_neither_turned_away_nor_repeats() {
        let mut snapshot = sample::snapshot();
        let mut with = |repeated, variance, drops, uid| {
            let web = &mut snapshot.listeners[1];
            (web.sample.repeated, web.sample.repeated_variance, web.uid) = (repeated, variance, uid);
            web.census.as_mut().unwrap().drops = drops;
            listeners(&snapshot).listeners[1].handshakes_expired
        };
        assert_eq!(with(0, 0, 0, Some(0)), Some(15), "all that are unanswered");
        assert_eq!((with(4, 0, 0, Some(0)), with(0, 0, 7, Some(0))), (Some(11), Some(8)));
        assert_eq!((with(4, 0, 7, Some(0)), with(9, 0, 7, Some(0))), (Some(8), Some(6)), "the same SYN may be both");
        assert_eq!(with(9, 1, 0, Some(0)), Some(15 - 7), "of an estimate its lower end");
        assert_eq!(with(4, 0, 7, None), Some(11), "how many of the 7 were counted is not known");
        assert_eq!(with(99, 0, 0, Some(0)), Some(0));
        assert_eq!(listeners(&snapshot).listeners[0].handshakes_expired, None, "no census saw it");
    }

    #[test]
    fn verdicts_are_shown_with_their_time_and_alert() {
        let answer = listeners(&sample::under_flood());
        let (web, refused) = (&answer.listeners[1], &answer.no_listener);
        assert_eq!((web.verdict, web.alert), (Some(Class::Spoofed), Some(3)));
        assert_eq!((web.syns_repeated, web.syns_repeated_error), (70, 24));
        assert_eq!((web.half_open_sources.len(), web.half_open_unnamed), (2, 240));
        assert_eq!((refused.verdict, refused.alert, refused.top_sources.len()), (Some(Class::Scan), Some(4), 1));
        assert!(web.verdict_since.is_some() && refused.verdict_since.is_some());
        let quiet = listeners(&sample::snapshot());
        assert_eq!((quiet.listeners[1].verdict, quiet.no_listener.verdict), (None, None));
    }

    #[test]
    fn syns_to_no_listener_are_summed_over_the_interfaces() {
        let mut snapshot = sample::snapshot();
        snapshot.interfaces.push(snapshot.interfaces[0].clone());
        let answer = listeners(&snapshot).no_listener;
        assert_eq!(answer.syns_by_family, ByFamily { ipv4: 20, ipv6: 60 });
        assert_eq!((answer.syns_received, answer.ports, answer.top_ports.len()), (80, 2, 2));
    }

    #[test]
    fn an_interface_that_goes_leaves_its_count() {
        let mut snapshot = sample::snapshot();
        let before = listeners(&snapshot).no_listener.syns_received;
        snapshot.departed = snapshot.interfaces.remove(0).counters;
        assert_eq!(listeners(&snapshot).no_listener.syns_received, before);
    }
}
