//! What must hold of the detector for any series of observations.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use tracker_model::{
    api::{AlertKind, AlertState},
    detect::{
        Detector, FlowSample, ListenerId, ListenerSeen, Observation, QueuesSeen, RefusedSeen, Sensitivity, SourcesSeen,
    },
    snapshot::{ListenerQueues, NamespaceCounters},
};

const ID: ListenerId = ListenerId { netns: 1, address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), port: 80 };

fn observation(millisecond: u64, syns: u64, completed: u64) -> Observation {
    let at = Duration::from_millis(millisecond);
    Observation {
        netns: 1,
        at,
        wall: Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::try_from(millisecond).unwrap()),
        listeners: vec![ListenerSeen {
            id: ID,
            syns,
            completed,
            handshake_p95_us: None,
            sample: FlowSample::default(),
            queues: None,
            sources: None,
        }],
        refused: RefusedSeen::default(),
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

/// Bursts of legitimate connections over a minute, answered before the lag.
fn bursts() -> impl Strategy<Value = Vec<Burst>> {
    let burst = (0..60_000_u64, prop_oneof![1..100_u64, 1..20_000_u64], 0..=390_u64);
    vec(burst.prop_map(|(at, syns, delay)| Burst { at, syns, delay }), 0..60)
}

/// Milliseconds between observations.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![200..300_u64, 200..300_u64, 10..1_500_u64], 250)
}

/// Steady load besides: SYNs per second, answered after so many milliseconds.
fn steady() -> impl Strategy<Value = (u64, u64)> {
    (0..5_000_u64, 0..=390_u64)
}

/// Counters at a moment of bursts and steady load.
fn counters(bursts: &[Burst], (rate, delay): (u64, u64), now: u64) -> (u64, u64) {
    let sum = |late: bool| {
        bursts.iter().filter(|b| b.at + if late { b.delay } else { 0 } <= now).map(|b| b.syns).sum::<u64>()
    };
    (sum(false) + rate * now / 1_000, sum(true) + rate * now.saturating_sub(delay) / 1_000)
}

/// Unanswered SYNs by then of a flood from second 20 on, with a rate for each second, the last of which is the 30th.
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

fn run(series: &[Observation]) -> (Detector, Outcome) {
    let mut detector = Detector::new(Sensitivity::Medium);
    let mut outcome = Outcome { statistics: Vec::new(), called: None };
    for (index, observation) in series.iter().enumerate() {
        detector.step(observation);
        outcome.statistics.push(detector.statistic(&ID).unwrap_or_default());
        if outcome.called.is_none() && !detector.alerts(|_| None).is_empty() {
            outcome.called = Some(index);
        }
    }
    (detector, outcome)
}

fn series(steps: &[u64], counters: impl Fn(u64) -> (u64, u64)) -> Vec<Observation> {
    let mut now = 0;
    let mut series = Vec::new();
    for step in steps {
        let (syns, completed) = counters(now);
        series.push(observation(now, syns, completed));
        now += step;
    }
    series
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// More that is unanswered never lowers the statistic nor calls a flood later.
    #[test]
    fn evidence_is_monotone(
        bursts in bursts(),
        steady in steady(),
        steps in steps(),
        some in vec(0..3_000_u64, 30),
        more in vec(0..3_000_u64, 30),
    ) {
        let load = |now| counters(&bursts, steady, now);
        let (_, less) = run(&series(&steps, |now| {
            let (syns, completed) = load(now);
            (syns + flood(&some, now), completed)
        }));
        let (_, more) = run(&series(&steps, |now| {
            let (syns, completed) = load(now);
            (syns + flood(&some, now) + flood(&more, now), completed)
        }));
        let until = more.called.unwrap_or(usize::MAX);
        for (index, (less, more)) in less.statistics.iter().zip(&more.statistics).enumerate().take_while(|(i, _)| *i <= until) {
            prop_assert!(*more >= less - 1e-9, "step {index}: {more} with more, {less} with less");
        }
        if let Some(called) = less.called {
            prop_assert!(more.called.is_some_and(|more| more <= called), "{:?} with more, {called} with less", more.called);
        }
    }

    /// What is answered is never an alarm, at any rate, in any burst, at any pace.
    #[test]
    fn no_alarm_while_all_is_answered(bursts in bursts(), steady in steady(), steps in steps()) {
        let (detector, outcome) = run(&series(&steps, |now| counters(&bursts, steady, now)));
        prop_assert_eq!(outcome.called, None);
        prop_assert!(outcome.statistics.iter().all(|statistic| *statistic <= 0.0));
        prop_assert!(detector.alerts(|_| None).is_empty());
    }

    /// An end is called within 10 s of the last unanswered SYN, and not before.
    #[test]
    fn there_is_always_an_end(
        steady in steady(),
        rates in vec(800..3_000_u64, 5..30),
        p95 in proptest::option::of(0..3_000_000_u64),
        jitter in vec(200..300_u64, 400),
    ) {
        let mut series = series(&jitter, |now| {
            let (syns, completed) = counters(&[], steady, now);
            (syns + flood(&rates, now), completed)
        });
        let end = Duration::from_secs(20 + u64::try_from(rates.len()).unwrap());
        let mut detector = Detector::new(Sensitivity::High);
        let mut called = false;
        for observation in &mut series {
            observation.listeners[0].handshake_p95_us = p95;
            detector.step(observation);
            let alerts = detector.alerts(|_| None);
            prop_assert!(alerts.len() <= 1);
            let firing = alerts.iter().any(|alert| alert.state == AlertState::Firing);
            called |= firing;
            prop_assert!(!firing || observation.at <= end + Duration::from_secs(10), "no end at {:?}", observation.at);
            prop_assert!(firing || !called || observation.at > end, "an end at {:?}", observation.at);
        }
        // Beside more clients than SYNs of the flood it may take longer than the flood lasts.
        prop_assert!(called || steady.0 > 200);
    }

    /// Nothing that is observed makes it panic, lose its bounds or contradict itself.
    #[test]
    fn garbage_does_no_harm(observations in vec(garbage(), 1..80)) {
        let mut detector = Detector::new(Sensitivity::High);
        for observation in &observations {
            detector.step(observation);
            let alerts = detector.alerts(|_| None);
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

fn queues() -> impl Strategy<Value = Option<QueuesSeen>> {
    let queues = (0..20_000_u64, any::<[u32; 4]>(), counter(), any::<bool>());
    proptest::option::of(queues.prop_map(|(at, [a, b, c, d], drops, small)| {
        let most = if small { 200 } else { u32::MAX };
        QueuesSeen {
            at: Duration::from_millis(at),
            queues: ListenerQueues {
                syn_queue: a % most,
                syn_queue_young: b % most,
                accept_queue: c % most,
                accept_queue_max: d % most,
                drops,
                ..ListenerQueues::default()
            },
        }
    }))
}

fn sources() -> impl Strategy<Value = Option<SourcesSeen>> {
    let sources = (counter(), 0.0..1e12, 0.0..1e12, vec(any::<IpAddr>(), 0..40));
    proptest::option::of(sources.prop_map(|(syns, distinct, distinct_total, sample)| SourcesSeen {
        syns,
        distinct,
        distinct_total,
        syns_total: syns.saturating_mul(2),
        sample,
    }))
}

fn listener() -> impl Strategy<Value = ListenerSeen> {
    let parts =
        (0..4_u16, counter(), counter(), proptest::option::of(counter()), queues(), sources(), any::<[u64; 5]>());
    parts.prop_map(|(port, syns, completed, handshake_p95_us, queues, sources, sample)| ListenerSeen {
        id: ListenerId { port, ..ID },
        syns,
        completed,
        handshake_p95_us,
        sample: FlowSample {
            first: sample[0],
            repeated: sample[1],
            completed: sample[2],
            evicted: sample[3],
            repeated_variance: sample[4],
        },
        queues,
        sources,
    })
}

fn garbage() -> impl Strategy<Value = Observation> {
    let refused = (counter(), any::<u32>(), vec((0..200_u16, counter()), 0..80), vec(any::<u16>(), 0..4), sources());
    let parts = (
        prop_oneof![0..20_000_u64, 0..20_000_u64, any::<u64>()],
        any::<i32>(),
        vec(listener(), 0..5),
        refused,
        proptest::option::of(counter()),
        proptest::option::of(".{0,300}"),
    );
    parts.prop_map(|(at, wall, listeners, refused, overflows, census_error)| Observation {
        netns: 1,
        at: Duration::from_millis(at),
        wall: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(wall.into()),
        listeners,
        refused: RefusedSeen {
            before: refused.2.iter().map(|(_, syns)| syns / 2).collect(),
            syns: refused.0,
            ports_touched: refused.1,
            ports: refused.2,
            served_before: refused.3,
            sources: refused.4,
        },
        namespace: overflows
            .map(|listen_overflows| NamespaceCounters { listen_overflows, ..NamespaceCounters::default() }),
        census_error,
    })
}
