//! Floods, and loads that are not floods, as the daemon judges them: short versions of what `cargo xtask lab detection`
//! measures.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::api::{Alert, AlertKind, AlertState, Class};
use tracker_tests::{
    Family,
    daemon::Daemon,
    detection::{
        Attack, Outcome, Run,
        benign::Load,
        lab::{self, Lab, api},
    },
    flood::{Flood, Pace, Sources},
    load_clients::Plan,
    serial,
};

use crate::support::eventually;

#[test]
fn a_spoofed_flood_is_called_and_ends() -> Result<()> {
    attack("spoofed_5000", Family::Ipv4, 1)
}

#[test]
fn a_flood_from_one_source_is_called_one() -> Result<()> {
    attack("single_source", Family::Ipv6, 2)
}

#[test]
fn a_flood_of_a_port_without_listener_is_called() -> Result<()> {
    attack("no_listener", Family::Ipv4, 1)
}

#[test]
fn acks_of_no_connection_are_no_syn_flood() -> Result<()> {
    attack("ack_flood", Family::Ipv6, 1)
}

#[test]
fn an_application_that_does_not_accept_is_called_slow() -> Result<()> {
    load("slow_accept", Duration::from_secs(50))
}

#[test]
fn a_scan_is_no_flood() -> Result<()> {
    load("port_scan", Duration::from_secs(15))
}

/// One run of an attack, within all bounds.
fn attack(name: &str, family: Family, cookies: u8) -> Result<()> {
    let _alone = serial::alone();
    let attack = Attack::named(name).context("no such attack")?;
    let lab = Lab::new(cookies, attack.ports)?;
    let daemon = lab.daemon(None)?;
    let outcome: Outcome = Run { lab: &lab, daemon: &daemon, attack, family, cookies, port: 0 }.run()?;
    assert!(outcome.failures.is_empty(), "{outcome:#?}");
    daemon.stop(Signal::SIGTERM)
}

fn load(name: &str, lasting: Duration) -> Result<()> {
    let _alone = serial::alone();
    let watched = Load::named(name).context("no such load")?.run(lasting, None)?;
    assert!(watched.failures.is_empty(), "{watched:#?}");
    Ok(())
}

#[test]
fn a_listener_that_vanishes_in_mid_flood_is_still_under_it() -> Result<()> {
    let _alone = serial::alone();
    let mut lab = Lab::new(1, 1)?;
    let target = lab.target(Family::Ipv4, Lab::port(0));
    let clients = Plan::requests(vec![target], lab::clients(Family::Ipv4, 8), 50.0).start(&lab.pair.client)?;
    let nginx = lab.take_nginx().context("no nginx")?;
    let daemon = lab.daemon(None)?;
    thread::sleep(Duration::from_secs(2));
    let sources = Sources::Everywhere(Family::Ipv4);
    let flood = Flood::syns(target, sources, Pace::Steady(1_000.0), Duration::from_mins(1));
    let flood = flood.start(&lab.pair.client, lab.route())?;
    let floods = || floods(&daemon, target.port());
    eventually("it is called", || Ok(floods()?.iter().any(|alert| alert.state == AlertState::Firing)))?;

    nginx.stop()?;
    eventually("it says what is not known", || Ok(floods()?.iter().any(|alert| !alert.unknown.is_empty())))?;
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(5) {
        let [alert] = &floods()?[..] else { panic!("one incident: {:?}", floods()?) };
        assert_eq!((alert.state, alert.class), (AlertState::Firing, Some(Class::Spoofed)), "{alert:?}");
        assert!(!alert.unknown.is_empty(), "{alert:?}");
        thread::sleep(Duration::from_millis(100));
    }
    flood.stop()?;
    drop(clients);
    eventually("its end is called", || Ok(floods()?.iter().all(|alert| alert.state == AlertState::Resolved)))?;
    assert_eq!(floods()?.len(), 1);
    daemon.stop(Signal::SIGTERM)
}

/// The SYN floods of a port.
fn floods(daemon: &Daemon<'_>, port: u16) -> Result<Vec<Alert>> {
    let alerts = api(daemon).alerts()?.answer.alerts.into_iter();
    Ok(alerts.filter(|alert| alert.kind == AlertKind::SynFlood && alert.subject.port == Some(port)).collect())
}
