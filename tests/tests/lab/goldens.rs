//! What users rely on stays as it is: names, types and labels of metrics, fields of JSON, and the help of each command.
//! `TRACKER_BLESS=1` rewrites the files under `tests/golden/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tracker_model::api::AlertKind;
use tracker_tests::{
    Family,
    api::Api,
    daemon,
    flood::{Flood, Pace, Sources},
    golden,
    pair::Pair,
    peer::{Calls, Keep, OK, Options, Peer},
    segment::Route,
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_refused::TRACEFS,
    ports_support::{keep_time_wait, narrow},
    scrape::assert_clean,
    support::wildcard,
};

/// Ports of the watched host: a server, one without, one that is held, and one that is shared until somebody listens.
const SERVED: u16 = 80;
const CLOSED: u16 = 4_444;
const HELD: u16 = 8_080;
const SHARED: u16 = 8_081;
/// Local ports for each destination.
const PORTS: u16 = 200;
/// A leak is reported after a minute of silence, and two looks at all processes.
const TOLD_WITHIN: Duration = Duration::from_secs(110);

/// Alerts whose evidence and subjects have all fields together.
const ALERTS: [AlertKind; 5] = [
    AlertKind::SynFlood,
    AlertKind::PortExhaustion,
    AlertKind::PortAllocationFailed,
    AlertKind::BindConflict,
    AlertKind::CloseWaitLeak,
];

#[test]
fn help_is_that_of_the_golden() -> Result<()> {
    let mut lines = Vec::new();
    append_help(&mut Vec::new(), &mut lines)?;
    golden::compare("help.txt", &lines)
}

/// The help of a command, and of each command below it.
fn append_help(words: &mut Vec<String>, lines: &mut Vec<String>) -> Result<()> {
    let mut command = Command::new(daemon::binary()?);
    daemon::without_settings(&mut command).env("COLUMNS", "100").stdin(Stdio::null());
    let output = command.args(&*words).arg("--help").output()?;
    ensure!(output.status.success(), "tracker {} --help: {}", words.join(" "), output.status);
    let text = String::from_utf8(output.stdout)?;
    lines.push(format!("==> tracker {}", words.join(" ")).trim_end().to_owned());
    lines.extend(text.lines().map(|line| line.trim_end().to_owned()));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    for name in names.filter(|name| *name != "help") {
        words.push(name.to_owned());
        append_help(words, lines)?;
        words.pop();
    }
    Ok(())
}

#[test]
fn metrics_and_fields_are_those_of_the_golden() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let host = &pair.server;
    narrow(host, PORTS)?;
    keep_time_wait(host)?;
    let start = Instant::now();
    let daemon = daemon::settings(host)?.arguments(&["--trace-bind"]).through(&TRACEFS).start()?;
    let api = Api::at(daemon.socket());

    let _servers = [
        Sink::start(host, wildcard(Family::Ipv4, SERVED), OnClose::Hold)?,
        Sink::start(&pair.client, wildcard(Family::Ipv4, 90), OnClose::Close)?,
        Sink::start(&pair.client, wildcard(Family::Ipv4, 91), OnClose::Hold)?,
        Sink::start(&pair.client, wildcard(Family::Ipv4, 92), OnClose::Follow)?,
    ];
    let outside = |port| pair.link.left.socket(Family::Ipv4, port);
    let visitor = Peer::start(&pair.client, "visitor")?;
    visitor.call(&Calls::held(pair.link.right.socket(Family::Ipv4, SERVED), 10))?;
    let leaky = Peer::start(host, "leaky")?;
    leaky.call(&Calls::held(outside(90), 150))?;
    let _holder = bind_conflicts(&pair)?;
    let closing = Peer::start(host, "closing")?;
    closing.call(&Calls { keep: Keep::Close, ..Calls::held(outside(92), 20) })?;
    let greedy = Peer::start(host, "greedy")?;
    greedy.begin(&Calls { rate: Some(20.0), ..Calls::held(outside(91), u32::from(PORTS) + 40) })?;

    let sources =
        [(SERVED, Sources::Prefix([198, 18, 0, 0].into(), 16)), (CLOSED, Sources::One([198, 18, 0, 1].into()))];
    let floods = sources.map(|(port, sources)| {
        let target = pair.link.right.socket(Family::Ipv4, port);
        let flood = Flood::syns(target, sources, Pace::Steady(2_000.0), Duration::from_secs(10));
        flood.start(&pair.client, Route { from: &pair.link.left, to: &pair.link.right })
    });
    // While the floods go on the fields of listeners have values; the alert of the leak comes later.
    let mut fields = BTreeMap::new();
    while !has_alerts(&api)? {
        ask(&api, &paths(outside(91)), &mut fields)?;
        ensure!(start.elapsed() < TOLD_WITHIN, "not within {TOLD_WITHIN:?}: {:#?}", api.alerts()?.answer);
        thread::sleep(Duration::from_millis(500));
    }
    for flood in floods {
        flood?.wait()?;
    }
    ask(&api, &paths(outside(91)), &mut fields)?;
    let lines: Vec<String> =
        fields.iter().flat_map(|(path, fields)| fields.iter().map(move |field| format!("{path} {field}"))).collect();
    golden::compare("json.txt", &lines)?;
    let scrape = daemon.metrics()?;
    golden::compare("metrics.txt", &golden::metrics(&scrape)?)?;
    assert_clean(&scrape)?;
    drop((visitor, leaky, closing, greedy));
    daemon.stop(Signal::SIGTERM)
}

fn has_alerts(api: &Api) -> Result<bool> {
    let alerts = api.alerts()?.answer.alerts;
    Ok(ALERTS.iter().all(|kind| alerts.iter().any(|alert| alert.kind == *kind)))
}

/// A process that holds a port of the host's and shares another, and one that was refused.
fn bind_conflicts(pair: &Pair) -> Result<(Peer, Peer)> {
    let (holder, late) = (Peer::start(&pair.server, "holder")?, Peer::start(&pair.server, "late")?);
    let (held, shared) = (holder.open(&Options::default())?, holder.open(&shared())?);
    ensure!(holder.bind(held, wildcard(Family::Ipv4, HELD))? == OK && holder.listen(held)? == OK);
    ensure!(holder.bind(shared, wildcard(Family::Ipv4, SHARED))? == OK);
    let datagrams = holder.open(&Options { udp: true, ..Options::default() })?;
    ensure!(holder.bind(datagrams, wildcard(Family::Ipv4, 0))? == OK);
    let refused = late.open(&Options::default())?;
    for _ in 0..3 {
        ensure!(late.bind(refused, wildcard(Family::Ipv4, HELD))? == "EADDRINUSE");
    }
    Ok((holder, late))
}

fn shared() -> Options {
    Options { reuse_address: true, ..Options::default() }
}

/// The paths of the API, by the names that they have in the golden. `full` is a destination without ports.
fn paths(full: SocketAddr) -> Vec<(&'static str, String)> {
    let plain = ["/v1/status", "/v1/listeners", "/v1/states", "/v1/alerts", "/v1/ports"];
    let any = Ipv4Addr::UNSPECIFIED;
    let explained = [
        ("/v1/explain/bind", format!("/v1/explain/bind?address={any}&port={HELD}")),
        ("/v1/explain/bind", format!("/v1/explain/bind?address={any}&port={SHARED}&reuse_address=true")),
        ("/v1/explain/connect", format!("/v1/explain/connect?address={}&port={}", full.ip(), full.port())),
        ("/v1/explain/listen", format!("/v1/explain/listen?address={any}&port={HELD}&seconds=1")),
        ("/v1/nothing", "/v1/nothing".to_owned()),
    ];
    plain.into_iter().map(|path| (path, path.to_owned())).chain(explained).collect()
}

/// Adds the fields of all answers to those seen so far.
fn ask(
    api: &Api,
    paths: &[(&'static str, String)],
    fields: &mut BTreeMap<&'static str, BTreeSet<String>>,
) -> Result<()> {
    for (name, path) in paths {
        let (_, body) = api.answer(path)?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))?;
        fields.entry(name).or_default().extend(golden::fields(&answer));
    }
    Ok(())
}
