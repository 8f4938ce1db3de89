//! What must hold of the detector for any series of observations.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use tracker_common::histogram::{BUCKETS, HANDSHAKE_SHIFT, edge_us};
use tracker_detect::alert::AlertStore;
use tracker_detect::syn::{
    ClosedPortsObservation, ListenerId, ListenerObservation, QueuesObservation, Sensitivity, SourcesObservation,
    SynObservation,
};
use tracker_detect::syn_flood::SynFlood;
use tracker_model::{
    api::{AlertKind, AlertState},
    counters::{HandshakeStats, ListenerQueues, NamespaceCounters},
};

const ID: ListenerId =
    ListenerId { netns: 1, address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), port: 80, device: 0 };

fn observation(millisecond: u64, seen: Counters) -> SynObservation {
    let at = Duration::from_millis(millisecond);
    SynObservation {
        netns: 1,
        at,
        wall: Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::try_from(millisecond).unwrap()),
        listeners: vec![ListenerObservation {
            id: ID,
            syns: seen.first + seen.repeated,
            undelivered: 0,
            drop_reasons: Vec::new(),
            completed: seen.completed,
            aborted: 0,
            handshake_p95_us: None,
            sample: HandshakeStats {
                first: seen.first,
                repeated: seen.repeated,
                completed: seen.completed,
                ..HandshakeStats::default()
            },
            queues: None,
            device: None,
            worst_socket: None,
            sources: None,
        }],
        closed_ports: ClosedPortsObservation::default(),
        namespace: None,
        census_error: None,
    }
}

/// Some of the SYNs of a series: when they come, how many, and how long each of their handshakes takes, milliseconds.
#[derive(Clone, Debug)]
struct Burst {
    at: u64,
    syns: u64,
    delay: u64,
}

/// Handshakes of which nothing is known are given 400 milliseconds; this is less by what the series rounds.
const UNKNOWN_LAG: u64 = 390;
/// Handshakes that are known to be slow are given this many at most.
const MOST_LAG: u64 = 3_000;

/// What a listener has seen: first SYNs, repeats, and completed handshakes.
#[derive(Clone, Copy, Debug)]
struct Counters {
    first: u64,
    repeated: u64,
    completed: u64,
}

/// When a client sends its SYN again while no answer has come, milliseconds after the first (RFC 6298).
const REPEATS: [u64; 3] = [1_000, 3_000, 7_000];

/// Legitimate connections, all of which are answered.
#[derive(Clone, Debug)]
struct Load {
    bursts: Vec<Burst>,
    /// Steady load besides: connections per second, and milliseconds until each is answered.
    steady: (u64, u64),
    /// What the listener's handshakes are known to take.
    p95_us: Option<u64>,
}

impl Load {
    /// Counters at a moment.
    fn counters(&self, now: u64) -> Counters {
        let (rate, delay) = self.steady;
        let begun = |ago: u64| rate * now.saturating_sub(ago) / 1_000;
        let came = |burst: &Burst, after: u64| if burst.at + after <= now { burst.syns } else { 0 };
        let repeats = |delay: u64| REPEATS.into_iter().filter(move |after| *after < delay);
        let bursts = &self.bursts;
        let first = begun(0) + bursts.iter().map(|burst| came(burst, 0)).sum::<u64>();
        let repeated = repeats(delay).map(begun).sum::<u64>()
            + bursts.iter().flat_map(|burst| repeats(burst.delay).map(move |after| came(burst, after))).sum::<u64>();
        let completed = begun(delay) + bursts.iter().map(|burst| came(burst, burst.delay)).sum::<u64>();
        Counters { first, repeated, completed }
    }
}

/// What 95 of 100 handshakes are known to take at most when none takes longer than this: the edge of a histogram's
/// bucket.
fn p95_us(slowest: u64) -> Option<u64> {
    (0..BUCKETS).filter_map(|bucket| edge_us(bucket, HANDSHAKE_SHIFT)).find(|edge| *edge >= slowest * 1_000)
}

/// Load over a minute, on a network on which a handshake takes `slowest` milliseconds at most; at up to `rate` a second
/// besides bursts. Of a fast one it may not be known yet how fast it is.
fn load(slowest: impl Strategy<Value = u64>, rate: u64) -> impl Strategy<Value = Load> {
    (slowest, any::<bool>()).prop_flat_map(move |(slowest, learnt)| {
        let burst = (0..60_000_u64, prop_oneof![1..100_u64, 1..20_000_u64], 0..=slowest);
        let bursts = vec(burst.prop_map(|(at, syns, delay)| Burst { at, syns, delay }), 0..60);
        let p95_us = if learnt || slowest > UNKNOWN_LAG { p95_us(slowest) } else { None };
        (bursts, (0..=rate, 0..=slowest)).prop_map(move |(bursts, steady)| Load { bursts, steady, p95_us })
    })
}

/// Milliseconds between observations.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![200..300_u64, 200..300_u64, 10..1_500_u64], 250)
}

/// Unanswered SYNs until `now` of a flood from second 20 on, with a rate for each second, the last of which is the
/// 30th.
fn flood(rates: &[u64], now: u64) -> u64 {
    let whole = now.saturating_sub(20_000);
    let rate = |second: u64| rates.get(usize::try_from(second).unwrap()).copied().unwrap_or(0);
    (0..whole / 1_000).map(rate).sum::<u64>() + rate(whole / 1_000) * (whole % 1_000) / 1_000
}

struct Outcome {
    statistics: Vec<f64>,
    /// Index of the observation at which a flood was first called.
    called: Option<usize>,
}

fn run(series: &[SynObservation]) -> (SynFlood, Outcome) {
    let mut detector = SynFlood::new(Sensitivity::Medium, AlertStore::default());
    let mut outcome = Outcome { statistics: Vec::new(), called: None };
    for (index, observation) in series.iter().enumerate() {
        detector.step(observation);
        outcome.statistics.push(detector.statistic(&ID).unwrap_or_default());
        if outcome.called.is_none() && !detector.alerts().is_empty() {
            outcome.called = Some(index);
        }
    }
    (detector, outcome)
}

/// Observations of a load and of unanswered SYNs besides.
fn series(steps: &[u64], load: &Load, unanswered: impl Fn(u64) -> u64) -> Vec<SynObservation> {
    let mut now = 0;
    let mut series = Vec::new();
    for step in steps {
        let answered = load.counters(now);
        let mut observation = observation(now, Counters { first: answered.first + unanswered(now), ..answered });
        observation.listeners[0].handshake_p95_us = load.p95_us;
        series.push(observation);
        now += step;
    }
    series
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// More that is unanswered never lowers the statistic nor calls a flood later.
    #[test]
    fn evidence_is_monotone(
        load in load(0..=UNKNOWN_LAG, 5_000),
        steps in steps(),
        some in vec(0..3_000_u64, 30),
        more in vec(0..3_000_u64, 30),
    ) {
        let (_, less) = run(&series(&steps, &load, |now| flood(&some, now)));
        let (_, more) = run(&series(&steps, &load, |now| flood(&some, now) + flood(&more, now)));
        let until = more.called.unwrap_or(usize::MAX);
        let both = less.statistics.iter().zip(&more.statistics);
        for (index, (less, more)) in both.enumerate().take_while(|(i, _)| *i <= until) {
            prop_assert!(*more >= less - 1e-9, "step {index}: {more} with more, {less} with less");
        }
        if let Some(called) = less.called {
            let is_sooner = more.called.is_some_and(|more| more <= called);
            prop_assert!(is_sooner, "{:?} with more, {called} with less", more.called);
        }
    }

    /// What is answered before clients send their SYNs again is never an alarm, at any rate, in any burst, at any pace.
    #[test]
    fn no_alarm_while_all_is_answered(
        load in load(prop_oneof![Just(UNKNOWN_LAG), 0..=REPEATS[0]], 5_000),
        steps in steps(),
    ) {
        let (detector, outcome) = run(&series(&steps, &load, |_| 0));
        prop_assert_eq!(outcome.called, None);
        prop_assert!(outcome.statistics.iter().all(|statistic| *statistic <= 0.0));
        prop_assert!(detector.alerts().is_empty());
    }

    /// Nor is what is answered later, beside the repeats, up to what the detector waits for at most.
    #[test]
    fn no_alarm_while_all_is_answered_late(load in load(REPEATS[0]..=MOST_LAG, 5_000), steps in steps()) {
        let (_, outcome) = run(&series(&steps, &load, |_| 0));
        prop_assert_eq!(outcome.called, None);
    }

    /// A flood as large as the legitimate load is called while it lasts, and its end within 10 s of the last unanswered
    /// SYN, and not before.
    #[test]
    fn there_is_always_an_end(
        sensitivity in prop_oneof![Just(Sensitivity::Medium), Just(Sensitivity::High)],
        (rate, delay) in (0..5_000_u64, 0..=UNKNOWN_LAG),
        slowest in proptest::option::of(UNKNOWN_LAG..=MOST_LAG),
        above in vec(0..2_000_u64, 15..30),
        jitter in vec(200..300_u64, 400),
    ) {
        let rates: Vec<_> = above.iter().map(|above| above + rate.max(400)).collect();
        let load = Load { bursts: Vec::new(), steady: (rate, delay), p95_us: slowest.and_then(p95_us) };
        let series = series(&jitter, &load, |now| flood(&rates, now));
        let onset = Duration::from_secs(20);
        let end = onset + Duration::from_secs(u64::try_from(rates.len()).unwrap());
        let latest = end + Duration::from_secs(10);
        let mut detector = SynFlood::new(sensitivity, AlertStore::default());
        let mut called = false;
        for observation in &series {
            let at = observation.at;
            detector.step(observation);
            let alerts = detector.alerts();
            prop_assert!(alerts.len() <= 1);
            let firing = alerts.iter().any(|alert| alert.state == AlertState::Firing);
            called |= firing;
            prop_assert!(!firing || (onset..=latest).contains(&at), "fires at {at:?}, the flood is over at {end:?}");
            prop_assert!(firing || !called || at > end, "ends at {at:?}, the flood at {end:?}");
            prop_assert!(called || at < end, "not called by {at:?}");
        }
        prop_assert!(series.last().unwrap().at > latest, "the series is long enough");
        prop_assert_eq!(detector.alerts()[0].state, AlertState::Resolved);
    }

    /// Nothing that is observed makes it panic, lose its bounds or contradict itself.
    #[test]
    fn garbage_does_no_harm(observations in vec(garbage(), 1..80)) {
        let mut detector = SynFlood::new(Sensitivity::High, AlertStore::default());
        for observation in &observations {
            detector.step(observation);
            let alerts = detector.alerts();
            prop_assert!(alerts.len() <= 256);
            for alert in &alerts {
                prop_assert!(alert.until.is_none_or(|until| until >= alert.since));
                prop_assert_eq!(alert.state == AlertState::Firing, alert.until.is_none());
                let evidence = alert.evidence.flood().unwrap();
                prop_assert!(evidence.top_sources.len() <= 10 && evidence.top_prefixes.len() <= 10);
                prop_assert!(alert.unknown.len() <= 9);
                prop_assert!(alert.kind == AlertKind::PortScan || evidence.ports.is_none());
                prop_assert!(!alert.summary.is_empty() && !alert.summary.contains("NaN"));
            }
            prop_assert!(detector.no_listener_sources().len() <= 10);
        }
    }
}

/// A counter that grows, falls, or wraps.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..100_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn queues() -> impl Strategy<Value = Option<QueuesObservation>> {
    let queues = (0..20_000_u64, any::<[u32; 4]>(), counter(), any::<bool>(), 0..3_u32);
    proptest::option::of(queues.prop_map(|(at, [a, b, c, d], drops, small, full)| {
        let most = if small { 200 } else { u32::MAX };
        QueuesObservation {
            at: Duration::from_millis(at),
            queues: ListenerQueues {
                syn_queue: a % most,
                syn_queue_young: b % most,
                accept_queue: c % most,
                accept_queue_max: d % most,
                drops,
                ..ListenerQueues::default()
            },
            census_at: small.then(|| Duration::from_millis(at / 2)),
            full,
            dropped_full: drops / 3,
        }
    }))
}

fn sources() -> impl Strategy<Value = Option<SourcesObservation>> {
    let sources = (counter(), 0.0..1e12, 0.0..1e12, vec(any::<IpAddr>(), 0..40));
    proptest::option::of(sources.prop_map(|(syns, distinct, distinct_total, sample)| SourcesObservation {
        syns,
        distinct,
        distinct_total,
        syns_total: syns.saturating_mul(2),
        completed: syns / 3,
        completed_sample: sample.iter().take(9).copied().collect(),
        sample,
    }))
}

fn listener() -> impl Strategy<Value = ListenerObservation> {
    let parts =
        (0..4_u16, counter(), counter(), proptest::option::of(counter()), queues(), sources(), any::<[u64; 5]>());
    parts.prop_map(|(port, syns, completed, handshake_p95_us, queues, sources, sample)| ListenerObservation {
        id: ListenerId { port, ..ID },
        syns,
        undelivered: sample[0] % 1_000,
        drop_reasons: Vec::new(),
        completed,
        aborted: sample[2],
        handshake_p95_us,
        sample: HandshakeStats {
            first: sample[0],
            repeated: sample[1],
            completed: sample[2],
            evicted: sample[3],
            repeated_variance: sample[4],
            ..HandshakeStats::default()
        },
        queues,
        device: None,
        worst_socket: None,
        sources,
    })
}

fn garbage() -> impl Strategy<Value = SynObservation> {
    let refused = (counter(), any::<u32>(), vec((0..200_u16, counter()), 0..80), vec(any::<u16>(), 0..4), sources());
    let parts = (
        prop_oneof![0..20_000_u64, 0..20_000_u64, any::<u64>()],
        any::<i32>(),
        vec(listener(), 0..5),
        refused,
        proptest::option::of(counter()),
        proptest::option::of(".{0,300}"),
    );
    parts.prop_map(|(at, wall, listeners, refused, overflows, census_error)| SynObservation {
        netns: 1,
        at: Duration::from_millis(at),
        wall: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(wall.into()),
        listeners,
        closed_ports: ClosedPortsObservation {
            before: refused.2.iter().map(|(_, syns)| syns / 2).collect(),
            syns: refused.0,
            ports_touched: refused.1,
            ports_of_scan: Some(refused.1).filter(|ports| ports % 2 == 0),
            ports: refused.2,
            served_before: refused.3,
            sources: refused.4,
        },
        namespace: overflows
            .map(|listen_overflows| NamespaceCounters { listen_overflows, ..NamespaceCounters::default() }),
        census_error,
    })
}
