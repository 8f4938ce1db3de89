//! Ports that run out: seen while they do, forecast, and counted when they have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tracker_model::api::{Alert, AlertKind, AlertState, PortHolder, Ports, Severity};
use tracker_tests::{
    Family,
    api::{Api, Counted},
    daemon::Daemon,
    detection::lab::raise_limits,
    pair::Pair,
    peer::{Call, Calls, Keep, OK, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{NO_PORT, alerts, failures, keep_time_wait, narrow, of_state, row, rows},
    support::{eventually, wildcard},
};

/// Ports in the range.
const PORTS: u32 = 1_000;
/// Calls a second of each process.
const RATE: f64 = 50.0;
/// And in all: some more than there are ports.
const CALLS: u32 = 1_100;
/// A port in `TIME_WAIT` may be taken after so long, nanoseconds; the margin is for clocks that count milliseconds.
const REUSE_DELAY: u64 = 1_000_000_000;
const MARGIN: u64 = 2_000_000;

/// A process that calls one destination.
struct Caller {
    peer: Peer,
    target: SocketAddr,
    keep: Keep,
    /// Whether its destination runs out of ports.
    runs_out: bool,
}

impl Caller {
    fn start(pair: &Pair, name: &str, target: SocketAddr, keep: Keep, runs_out: bool) -> Result<Self> {
        Ok(Self { peer: Peer::start(&pair.client, name)?, target, keep, runs_out })
    }

    fn calls(&self) -> Calls {
        Calls { count: CALLS, rate: Some(RATE), keep: self.keep, ..Calls::held(self.target, CALLS) }
    }
}

/// What the daemon said at a moment, on the way.
struct Sample {
    counted: Counted,
    alerts: Vec<Alert>,
    at: Timestamp,
}

#[test]
fn ports_that_run_out_are_seen_forecast_and_counted() -> Result<()> {
    let _alone = serial::alone();
    raise_limits()?;
    let pair = Pair::plain()?;
    narrow(&pair.client, u16::try_from(PORTS)?)?;
    keep_time_wait(&pair.client)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let on_loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 82);
    let _servers = [
        Sink::start(&pair.server, wildcard(Family::Ipv4, 80), OnClose::Hold)?,
        Sink::start(&pair.server, wildcard(Family::Ipv4, 81), OnClose::Follow)?,
        Sink::start(&pair.client, wildcard(Family::Ipv4, 82), OnClose::Follow)?,
        Sink::start(&pair.server, wildcard(Family::Ipv4, 83), OnClose::Hold)?,
    ];
    // Ports in TIME_WAIT are taken again on loopback alone, as by default.
    let to = |port| pair.link.right.socket(Family::Ipv4, port);
    let callers = [
        Caller::start(&pair, "holds", to(80), Keep::Open, true)?,
        Caller::start(&pair, "closes", to(81), Keep::Close, true)?,
        Caller::start(&pair, "closes-here", on_loopback, Keep::Close, false)?,
    ];
    let green = to(83);
    let bystander = Peer::start(&pair.client, "bystander")?;
    assert_eq!(bystander.call(&Calls::held(green, 3))?.connected, 3);

    for caller in &callers {
        caller.peer.begin(&caller.calls())?;
    }
    let samples = watch(&api, &callers)?;
    let settled = api.counted_ports()?;
    for caller in &callers {
        let log = caller.peer.log()?;
        assert_steps(caller, &log, &samples)?;
        if caller.runs_out {
            assert_forecast(caller, &log, &samples)?;
            assert_reported(&api, caller, &log, &settled)?;
        } else {
            assert!(log.iter().all(|call| call.error.is_none()), "ports are taken again on loopback");
            assert_green(&samples, caller.target);
        }
    }
    assert_green(&samples, green);
    let row = row(&settled, green)?;
    assert_eq!((row.in_use, row.capacity, row.failures), (3, PORTS, 0));
    assert!(!api.explain_connect(green, None)?.would_fail);
    assert_eq!(bystander.call_once(green)?, OK, "another destination works");
    let targets: BTreeSet<_> = settled.failures.iter().map(|failure| failure.destination_port).collect();
    assert_eq!(targets, BTreeSet::from([80, 81]));
    drop((callers, bystander));
    daemon.stop(Signal::SIGTERM)
}

/// Asks until all have called as often as they are to.
fn watch(api: &Api, callers: &[Caller]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let goes_on = || -> Result<bool> {
        let each = callers.iter().map(|caller| Ok(caller.peer.progress()?.done)).collect::<Result<Vec<_>>>()?;
        Ok(each.contains(&false))
    };
    while goes_on()? {
        if let Some(counted) = api.timed_ports()? {
            samples.push(Sample { counted, alerts: api.alerts()?.answer.alerts, at: Timestamp::now() });
        }
        thread::sleep(Duration::from_millis(130));
    }
    Ok(samples)
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).expect("after 1970")
}

/// The calls that had returned when a census began, if none was under way while it went on.
fn calls_of<'a>(log: &'a [Call], counted: &Counted) -> Option<&'a [Call]> {
    let ended = counted.ports.taken_at.expect("a census");
    let (begun, ended) = (nanoseconds(counted.begun), nanoseconds(ended));
    let before = log.partition_point(|call| call.ended < begun);
    log.get(before).is_none_or(|next| next.begun > ended).then_some(&log[..before])
}

/// Every census counted as many ports as the process had taken.
fn assert_steps(caller: &Caller, log: &[Call], samples: &[Sample]) -> Result<()> {
    let mut compared = 0;
    let whole = samples.iter().filter_map(|sample| Some((sample, calls_of(log, &sample.counted)?)));
    for (sample, calls) in whole {
        let at = nanoseconds(sample.counted.ports.taken_at.context("a census")?);
        let taken: BTreeSet<u16> = calls.iter().filter(|call| call.error.is_none()).map(|call| call.port).collect();
        let in_use = u32::try_from(taken.len())?;
        let Some(row) = rows(&sample.counted.ports, caller.target).next() else {
            assert_eq!(in_use, 0, "{}: no row", caller.target);
            continue;
        };
        assert_eq!((row.in_use, row.capacity), (in_use, PORTS), "{}: {row:?}", caller.target);
        if caller.keep == Keep::Open {
            assert_eq!(row.states, of_state("established", in_use), "{}", caller.target);
            assert_eq!((row.time_wait, row.reusable, row.recyclable), (0, 0, 0));
        } else {
            assert_eq!(row.states, of_state("time_wait", in_use), "{}", caller.target);
            assert_recyclable(calls, &sample.counted, at, row.recyclable);
            assert_eq!(row.reusable, if caller.target.ip().is_loopback() { row.recyclable } else { 0 });
        }
        let used = f64::from(row.in_use - row.reusable) / f64::from(PORTS);
        assert!((row.used_ratio - used).abs() < 1e-9, "{row:?}");
        compared += 1;
    }
    println!("{}: {compared} of {} censuses compared", caller.target, samples.len());
    assert!(compared >= 25, "{}: of {} censuses {compared} came between two calls", caller.target, samples.len());
    Ok(())
}

/// Those whose last connection has been in `TIME_WAIT` for longer than the delay.
fn assert_recyclable(calls: &[Call], counted: &Counted, at: u64, recyclable: u32) {
    let made = calls.iter().filter(|call| call.error.is_none());
    let last: BTreeMap<u16, &Call> = made.map(|call| (call.port, call)).collect();
    let older = |age: &dyn Fn(&Call) -> u64| last.values().filter(|call| age(call) > REUSE_DELAY).count();
    let fewest = older(&|call| nanoseconds(counted.begun).saturating_sub(call.ended + MARGIN));
    let most = older(&|call| (at + MARGIN).saturating_sub(call.begun));
    let recyclable = usize::try_from(recyclable).expect("64 bits");
    assert!((fewest..=most).contains(&recyclable), "{recyclable}, not {fewest} to {most}");
}

/// The alert came and rose before the first failure, and the time to it was right from half way on.
fn assert_forecast(caller: &Caller, log: &[Call], samples: &[Sample]) -> Result<()> {
    let target = caller.target;
    let failed = log.iter().find(|call| call.error.is_some()).context("it never failed")?;
    let full = log.iter().rev().find(|call| call.error.is_none()).context("it never succeeded")?;
    let about = |alert: &&Alert| {
        alert.kind == AlertKind::PortExhaustion
            && (alert.subject.destination, alert.subject.destination_port) == (Some(target.ip()), Some(target.port()))
    };
    for severity in [Severity::Warning, Severity::Critical] {
        let has = |sample: &&Sample| sample.alerts.iter().filter(about).any(|alert| alert.severity == severity);
        let first = samples.iter().find(has).with_context(|| format!("{target}: never a {severity:?}"))?;
        println!("{target}: {severity:?} {:.1} s ahead", seconds(failed.begun) - seconds(nanoseconds(first.at)));
        assert!(nanoseconds(first.at) < failed.begun, "{target}: {severity:?} after the first failure");
    }
    let (mut forecasts, mut worst): (u32, f64) = (0, 0.0);
    for sample in samples {
        let at = nanoseconds(sample.counted.ports.taken_at.context("a census")?);
        let Some(row) = rows(&sample.counted.ports, target).next() else { continue };
        if !(PORTS / 2..PORTS).contains(&row.in_use) {
            continue;
        }
        let truth = (seconds(full.begun) - seconds(at)).max(0.0);
        let forecast = row.full_in_seconds.with_context(|| format!("{target}: no forecast: {row:?}"))?;
        // Calls come one by one, and one may be under way.
        let off = ((forecast - truth).abs() - 1.5 / RATE).max(0.0);
        worst = worst.max(off / truth.max(1.0 / RATE));
        assert!(off <= 0.2 * truth, "{target}: forecast {forecast:.2} s, and it took {truth:.2} s: {row:?}");
        forecasts += 1;
    }
    println!("{target}: {forecasts} forecasts, at most {:.1} % off", 100.0 * worst);
    assert!(forecasts >= 20, "{target}: {forecasts} forecasts from half way on");
    Ok(())
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// The failures are those that the process saw, it is named, and what is asked about it is answered so.
fn assert_reported(api: &Api, caller: &Caller, log: &[Call], settled: &Ports) -> Result<()> {
    let Caller { peer, target, .. } = caller;
    let failed: Vec<_> = log.iter().filter(|call| call.error.is_some()).collect();
    assert!(failed.iter().all(|call| call.error.as_deref() == Some(NO_PORT)), "{target}: {failed:?}");
    let count = u64::try_from(failed.len())?;
    assert_eq!(count, u64::from(CALLS - PORTS), "{target}: every port was found");
    let row = row(settled, *target)?;
    assert_eq!((row.in_use, row.used_ratio, row.full_in_seconds), (PORTS, 1.0, Some(0.0)), "{target}");
    assert_eq!(row.failures, count, "{target}");
    let seen = failures(settled, *target);
    let [failure] = seen[..] else { panic!("one process failed to reach {target}: {seen:?}") };
    assert_eq!((failure.process.pid, failure.process.comm.as_str()), (peer.pid(), peer.name()));
    assert_eq!((failure.count, failure.source, failure.uid), (count, Some(row.source), 0));
    for (time, call) in [(failure.first, failed[0]), (failure.last, failed[failed.len() - 1])] {
        // The daemon turns one clock's time into that of another.
        let slack = 2_000_000;
        let within = call.begun - slack..=call.ended + slack;
        assert!(within.contains(&nanoseconds(time)), "{target}: {time} is not of {call:?}");
    }
    let alert = alerts(api, AlertKind::PortAllocationFailed, *target)?;
    let [alert] = &alert[..] else { panic!("one alert of failures to reach {target}: {alert:?}") };
    let evidence = alert.evidence.ports().context("evidence of ports")?;
    assert_eq!((alert.severity, alert.state, evidence.failures), (Severity::Critical, AlertState::Firing, count));
    let by: Vec<_> = evidence.failed.iter().map(|by| (by.pid, by.comm.as_str(), by.failures)).collect();
    assert_eq!(by, [(peer.pid(), peer.name(), count)]);
    assert_eq!(alert.subject.process.as_ref().map(|process| process.pid), Some(peer.pid()));
    let exhausted = alerts(api, AlertKind::PortExhaustion, *target)?;
    let [exhausted] = &exhausted[..] else { panic!("one alert of {target}: {exhausted:?}") };
    assert_eq!((exhausted.severity, exhausted.state), (Severity::Critical, AlertState::Firing));
    let answer = api.explain_connect(*target, None)?;
    assert_eq!((answer.would_fail, answer.free_ports, answer.capacity), (true, 0, PORTS));
    assert_eq!(peer.call_once(*target)?, NO_PORT);
    if caller.keep == Keep::Open {
        let holder = PortHolder { pid: peer.pid(), comm: peer.name().to_owned(), ports: PORTS };
        eventually("the holder is named", || {
            Ok(self::row(&api.counted_ports()?, *target)?.processes == [holder.clone()])
        })?;
        assert_eq!((answer.processes[0].pid, answer.processes[0].ports), (peer.pid(), PORTS));
    }
    Ok(())
}

/// Nothing was ever said against a destination.
fn assert_green(samples: &[Sample], target: SocketAddr) {
    for sample in samples {
        let about = |alert: &&Alert| alert.subject.destination_port == Some(target.port());
        let alert = sample.alerts.iter().find(about);
        assert!(alert.is_none(), "{target}: {alert:?}");
        let Some(row) = rows(&sample.counted.ports, target).next() else { continue };
        assert!(row.used_ratio < 0.15 && row.failures == 0, "{row:?}");
    }
}
