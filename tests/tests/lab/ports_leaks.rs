//! Processes that do not close what their peers have closed, or wait for peers that do not: named with count and age.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::api::{Alert, AlertKind, AlertState, Severity};
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    pair::Pair,
    peer::{Calls, Keep, Peer},
    serial,
    sink::{OnClose, Sink},
    ss,
};

use crate::support::{eventually, wildcard};

/// Sockets that each of the two leaks.
const LEAKED: u32 = 200;
/// Too few to be a leak.
const FEW: u32 = 40;
/// A socket counts when its peer has been silent for so long.
const SILENT: Duration = Duration::from_mins(1);
/// It is named after two looks at all processes, of which there are four a minute, and a census each five seconds.
const NAMED_WITHIN: Duration = Duration::from_secs(60 + 2 * 20 + 5);
/// Connections of the proxy: it closes each two seconds after its peer has, so that it has about a hundred of them.
const PROXIED_PER_SECOND: f64 = 50.0;
const PROXIED: Keep = Keep::Milliseconds(2_000);

#[test]
fn leaks_are_named_and_short_lived_sockets_are_none() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let _servers = [
        Sink::start(&pair.server, wildcard(Family::Ipv4, 80), OnClose::Close)?,
        Sink::start(&pair.server, wildcard(Family::Ipv6, 80), OnClose::Close)?,
        Sink::start(&pair.server, wildcard(Family::Ipv4, 81), OnClose::Hold)?,
    ];
    let target = |family, port| pair.link.right.socket(family, port);
    let peer = |name| Peer::start(&pair.client, name);
    let (forgetful, waiting, proxy, slow) = (peer("forgetful")?, peer("waiting")?, peer("proxy")?, peer("slow")?);
    let calls = u32::try_from(NAMED_WITHIN.as_secs())? * 50;
    let proxied =
        Calls { rate: Some(PROXIED_PER_SECOND), keep: PROXIED, ..Calls::held(target(Family::Ipv4, 80), calls) };
    proxy.begin(&proxied)?;
    let start = Instant::now();
    // Of both families: it is the process that leaks.
    for family in Family::BOTH {
        assert_eq!(forgetful.call(&Calls::held(target(family, 80), LEAKED / 2))?.connected, LEAKED / 2);
    }
    let half = Calls { keep: Keep::Half, ..Calls::held(target(Family::Ipv4, 81), LEAKED) };
    assert_eq!(waiting.call(&half)?.connected, LEAKED);
    assert_eq!(slow.call(&Calls::held(target(Family::Ipv4, 80), FEW))?.connected, FEW);

    let mut proxied_at_once = 0;
    let alerts = loop {
        thread::sleep(Duration::from_secs(1));
        let alerts = api.alerts()?.answer.alerts;
        assert!(start.elapsed() >= SILENT || alerts.is_empty(), "not silent for long enough: {alerts:?}");
        // Each socket counts from its own minute of silence on, so that the first look of a leak may not find all yet.
        if alerts.len() >= 2 && alerts.iter().all(|alert| leaked(alert) >= u64::from(LEAKED)) {
            break alerts;
        }
        ensure!(start.elapsed() < NAMED_WITHIN, "not within {NAMED_WITHIN:?}: {alerts:?}");
        let close_wait = ss::count(&pair.client, Family::Ipv4)?.get("close_wait").copied().unwrap_or(0);
        proxied_at_once = proxied_at_once.max(close_wait.saturating_sub(u64::from(LEAKED / 2 + FEW)));
    };
    println!("named after {:.1?}", start.elapsed());
    assert!(proxied_at_once >= 80, "the proxy had {proxied_at_once} sockets in CLOSE_WAIT at once");
    for (kind, peer) in [(AlertKind::CloseWaitLeak, &forgetful), (AlertKind::FinWaitLeak, &waiting)] {
        assert_named(&alerts, kind, peer, start)?;
    }
    assert_eq!(alerts.len(), 2, "nobody else: {alerts:?}");

    // Whoever closes them leaks no more. Asked often, the daemon looks often.
    drop((forgetful, waiting));
    eventually("they are over", || {
        api.counted_ports()?;
        let alerts = api.alerts()?.answer.alerts;
        assert_eq!(alerts.len(), 2, "nobody else: {alerts:?}");
        Ok(alerts.iter().all(|alert| alert.state == AlertState::Resolved))
    })?;
    drop((proxy, slow));
    daemon.stop(Signal::SIGTERM)
}

/// Sockets that an alert says leak.
fn leaked(alert: &Alert) -> u64 {
    serde_json::to_value(&alert.evidence).ok().and_then(|evidence| evidence["leaked"].as_u64()).unwrap_or_default()
}

fn assert_named(alerts: &[Alert], kind: AlertKind, peer: &Peer, start: Instant) -> Result<()> {
    let alert = alerts.iter().find(|alert| alert.kind == kind).with_context(|| format!("no {kind:?}: {alerts:?}"))?;
    println!("{}", alert.summary);
    assert_eq!((alert.severity, alert.state), (Severity::Warning, AlertState::Firing));
    let process = alert.subject.process.as_ref().context("no process")?;
    assert_eq!((process.pid, process.comm.as_str()), (peer.pid(), peer.name()));
    let evidence = serde_json::to_value(&alert.evidence)?;
    assert_eq!((&evidence["leaked"], &evidence["leaked_peak"]), (&LEAKED.into(), &LEAKED.into()));
    let oldest = evidence["oldest_seconds"].as_f64().context("no age")?;
    let age = start.elapsed().as_secs_f64();
    let plausible = SILENT.as_secs_f64()..=age;
    assert!(plausible.contains(&oldest), "{age:.1} s old: {evidence:?}");
    // At the last look, which was not long ago.
    assert!(oldest > age - 25.0, "{age:.1} s old: {evidence:?}");
    let words = [peer.name(), &peer.pid().to_string(), "200 sockets"];
    assert!(words.iter().all(|word| alert.summary.contains(word)), "{}", alert.summary);
    Ok(())
}
