//! What a run showed, beside what was sent, and which bounds it missed.

use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use tracker_model::api::{Alert, AlertKind, AlertState, Class};

use super::{
    attack::{Expect, Run, Truth},
    lab,
    watch::Reading,
};
use crate::{
    Family,
    flood::{Pace, Sent},
};

/// What must hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds;

impl Bounds {
    /// Until an alert, the middle of the runs, seconds.
    pub const ALERT_MEDIAN: f64 = 1.5;
    /// Until an alert, the slowest, seconds.
    pub const ALERT_WORST: f64 = 3.0;
    /// Of the rate, relative.
    pub const RATE: f64 = 0.02;
    /// Of distinct sources, relative.
    pub const SOURCES: f64 = 0.05;
    /// Until the end is called, seconds.
    pub const END: f64 = 10.0;
    /// An answer of the API.
    pub const API: Duration = Duration::from_millis(50);
}

/// A run, judged.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of which attack.
    pub name: String,
    /// Family and cookies.
    pub setting: String,
    /// From the first SYN to the alert, seconds; of two listeners the later.
    pub alert_after: Option<f64>,
    /// What it was called.
    pub class: Option<Class>,
    /// Whether that is right, and the prefix with it.
    pub class_right: bool,
    /// Whether the alert is about the right listener, and none about another.
    pub listener_right: bool,
    /// Of the rate, relative.
    pub rate_error: Option<f64>,
    /// Of the distinct sources, relative.
    pub sources_error: Option<f64>,
    /// From the last SYN to the end of the alert, seconds.
    pub end_after: Option<f64>,
    /// Alerts for each listener, the most.
    pub incidents: usize,
    /// Whether all counts are those of the kernel and of the senders, or less by no more than the daemon says.
    pub exact: bool,
    /// Handshakes that are missing.
    pub short: u64,
    /// Frames that were sent.
    pub frames: u64,
    /// Time of day of the first and of the last.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Connections of real clients that were served, and that were tried.
    pub served: (u64, u64),
    /// The slowest answer of the API, and the 99th of 100.
    pub api: (Duration, Duration),
    /// Bounds that it missed.
    pub failures: Vec<String>,
}

impl Outcome {
    /// A run that could not be made.
    #[must_use]
    pub fn broken(name: &str, setting: &str, error: &anyhow::Error) -> Self {
        let failures = vec![format!("{error:#}").lines().take(3).collect::<Vec<_>>().join(" / ")];
        Self { name: name.to_owned(), setting: setting.to_owned(), failures, ..Self::default() }
    }

    fn fails(&mut self, failed: bool, why: impl FnOnce() -> String) {
        if failed {
            self.failures.push(why());
        }
    }
}

impl Run<'_> {
    /// Does it and judges.
    pub fn run(&self) -> Result<Outcome> {
        Ok(evaluate(self, &self.observe()?))
    }
}

/// Compares a run with its truth.
fn evaluate(run: &Run<'_>, truth: &Truth<'_>) -> Outcome {
    let mut outcome = Outcome {
        name: run.attack.name.to_owned(),
        setting: setting(run.family, run.cookies),
        frames: truth.sent.iter().map(|sent| sent.frames).sum(),
        span: truth.sent.first().map(|sent| (sent.start, sent.end())),
        served: (truth.clients.done, truth.clients.attempted),
        api: truth.watch.slowest(),
        ..Outcome::default()
    };
    match run.attack.expect {
        Expect::Flood(class) => judge_flood(&mut outcome, run, truth, class),
        Expect::Visible(name) => judge_visible(&mut outcome, truth, name),
    }
    judge_counts(&mut outcome, run, truth);
    let slowest = outcome.api.0;
    outcome.fails(slowest > Bounds::API, || format!("an answer of the API took {slowest:?}"));
    outcome
}

/// Family and cookies, in short.
#[must_use]
pub fn setting(family: Family, cookies: u8) -> String {
    format!("{}/{cookies}", family.name())
}

#[expect(clippy::too_many_lines, reason = "one check after the other")]
fn judge_flood(outcome: &mut Outcome, run: &Run<'_>, truth: &Truth<'_>, class: Class) {
    let strays = strays(run, truth);
    outcome.listener_right = strays.is_empty();
    outcome.fails(!strays.is_empty(), || format!("called beside it: {}", strays.join(", ")));
    outcome.class_right = true;
    for (index, port) in run.ports().into_iter().enumerate() {
        let seen = Seen::of(run, truth, index, port);
        let ids = seen.ids();
        outcome.incidents = outcome.incidents.max(ids);
        outcome.fails(ids != 1, || format!("{ids} incidents at port {port}"));
        let Some(last) = seen.last() else {
            (outcome.class_right, outcome.listener_right) = (false, false);
            continue;
        };
        outcome.class = last.class;
        let named = seen.in_flood().and_then(|alert| alert.class);
        let prefix = run.attack.prefix(run.family);
        let right =
            named == Some(class) && last.class == named && prefix.is_none_or(|prefix| seen.names_first(&prefix));
        outcome.class_right &= right;
        outcome.fails(!right, || {
            let first =
                seen.in_flood().and_then(|alert| alert.evidence.flood().expect("of a flood").top_prefixes.first());
            format!("called {named:?} while it ran ({first:?}), {:?} when it was over", last.class)
        });
        outcome.alert_after = later(outcome.alert_after, seen.alert_after());
        outcome.end_after = later(outcome.end_after, seen.end_after());
        outcome.fails(seen.end_after().is_none_or(|end| end > Bounds::END), || {
            format!("end after {:?} s", seen.end_after())
        });
        outcome.fails(last.evidence.flood().expect("of a flood").pulses + 1 != seen.pulses(), || {
            format!("{} pauses for {} pulses", last.evidence.flood().expect("of a flood").pulses, seen.pulses())
        });
        let rate = seen.rate_error();
        outcome.rate_error = later(outcome.rate_error, rate.as_ref().map(|(error, _)| *error));
        outcome.fails(rate.as_ref().is_none_or(|(error, _)| *error > Bounds::RATE), || format!("rate: {rate:?}"));
        let sources = seen.sources_error();
        outcome.sources_error = later(outcome.sources_error, Some(sources.0));
        outcome.fails(sources.0 > Bounds::SOURCES, || format!("sources: {}", sources.1));
    }
    let alert_after = outcome.alert_after;
    let rises = matches!(run.attack.pace(), Pace::Rising { .. });
    outcome.fails(!rises && alert_after.is_some_and(|after| after < -0.05), || {
        format!("alert before the onset: {alert_after:?}")
    });
    outcome
        .fails(alert_after.is_none_or(|after| after >= Bounds::ALERT_WORST), || format!("alert after {alert_after:?}"));
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::max)
}

/// SYN floods that were called where none was.
fn strays(run: &Run<'_>, truth: &Truth<'_>) -> Vec<String> {
    let seen = truth.watch.seen(AlertKind::SynFlood).into_iter();
    let strays = seen.filter(|alert| !run.ports().iter().any(|port| is_about(alert, run, *port)));
    strays.map(|alert| format!("{:?}:{:?} {:?}", alert.subject.address, alert.subject.port, alert.class)).collect()
}

fn is_about(alert: &Alert, run: &Run<'_>, port: u16) -> bool {
    let address = run.attack.served.then(|| lab::wildcard(run.family));
    alert.kind == AlertKind::SynFlood && alert.subject.port == Some(port) && alert.subject.address == address
}

/// The alert of one port through the readings.
struct Seen<'a> {
    run: &'a Run<'a>,
    truth: &'a Truth<'a>,
    port: u16,
    sent: &'a Sent,
    first: Instant,
}

impl<'a> Seen<'a> {
    fn of(run: &'a Run<'_>, truth: &'a Truth<'_>, index: usize, port: u16) -> Self {
        Self { run, truth, port, sent: &truth.sent[index], first: truth.firsts[index] }
    }

    fn alerts(&self) -> impl DoubleEndedIterator<Item = (&'a Reading, &'a Alert)> + use<'a> {
        let (run, port) = (self.run, self.port);
        let of = move |reading: &'a Reading| {
            reading.alerts.iter().find(|alert| is_about(alert, run, port)).map(|alert| (reading, alert))
        };
        self.truth.watch.readings.iter().filter_map(of)
    }

    fn ids(&self) -> usize {
        let alerts = self.truth.watch.seen(AlertKind::SynFlood).into_iter();
        alerts.filter(|alert| is_about(alert, self.run, self.port)).count()
    }

    fn last(&self) -> Option<&'a Alert> {
        self.alerts().next_back().map(|(_, alert)| alert)
    }

    /// As it was at the last reading while the flood ran.
    fn in_flood(&self) -> Option<&'a Alert> {
        self.alerts().rfind(|(reading, _)| reading.taken_at <= self.sent.end()).map(|(_, alert)| alert)
    }

    fn names_first(&self, prefix: &str) -> bool {
        self.in_flood()
            .and_then(|alert| alert.evidence.flood().expect("of a flood").top_prefixes.first())
            .is_some_and(|first| first.source == prefix)
    }

    fn alert_after(&self) -> Option<f64> {
        let (reading, _) = self.alerts().next()?;
        let onset = self.first + self.run.attack.onset();
        Some(seconds_between(onset, reading.at))
    }

    /// From the last frame to the first reading that says it is over and after which none says otherwise.
    fn end_after(&self) -> Option<f64> {
        let mut resolved = None;
        for (reading, alert) in self.alerts().rev() {
            if alert.state == AlertState::Firing {
                break;
            }
            resolved = Some(reading.at);
        }
        let last = self.first + self.sent.end().duration_since(self.sent.start).unsigned_abs();
        later(Some(seconds_between(last, resolved?)), self.pulse_end())
    }

    /// From the last frame of each pulse but the last to the first reading that says it is over: the longest. As the
    /// next pulse comes after 17 s, one that is never said to be over counts with more than that.
    fn pulse_end(&self) -> Option<f64> {
        let Pace::Pulse { on, period, .. } = self.run.attack.pace() else { return None };
        let ends = (0..self.pulses() - 1).map(|pulse| self.sent.start + period * pulse + on);
        let after = |end: Timestamp| {
            let over =
                |(reading, alert): &(&Reading, &Alert)| reading.taken_at > end && alert.state == AlertState::Resolved;
            self.alerts()
                .find(over)
                .map_or(f64::INFINITY, |(reading, _)| reading.taken_at.duration_since(end).as_secs_f64())
        };
        ends.map(after).reduce(f64::max)
    }

    /// How many pulses were sent; 1 for any other pace.
    fn pulses(&self) -> u32 {
        let Pace::Pulse { period, .. } = self.run.attack.pace() else { return 1 };
        let lasted = self.sent.end().duration_since(self.sent.start).unsigned_abs();
        u32::try_from(lasted.as_millis() / period.as_millis()).unwrap_or(0) + 1
    }

    /// Of the last reading whose rates are over two seconds that lie wholly in the flood: against what was sent in just
    /// these.
    fn rate_error(&self) -> Option<(f64, String)> {
        let (start, end) = (self.last_start() + SignedDuration::from_millis(100), self.sent.end());
        let span = |alert: &Alert| {
            let until = alert.evidence.flood().expect("of a flood").rates_until?;
            let from = until
                - SignedDuration::try_from_secs_f64(alert.evidence.flood().expect("of a flood").rates_seconds).ok()?;
            (from >= start && until <= end && alert.evidence.flood().expect("of a flood").rates_seconds >= 1.5)
                .then_some((from, until))
        };
        let (alert, (from, until)) = self.alerts().rev().find_map(|(_, alert)| Some((alert, span(alert)?)))?;
        let mut sent = self.sent.frames_at(until) - self.sent.frames_at(from);
        if self.run.attack.served {
            let clients = self.truth.watch.syns_at(until) - self.truth.watch.syns_at(from);
            sent += clients / f64::from(self.run.attack.ports);
        }
        let (seen, truth) = (
            alert.evidence.flood().expect("of a flood").syn_rate,
            sent / alert.evidence.flood().expect("of a flood").rates_seconds,
        );
        Some(((seen - truth).abs() / truth, format!("{seen:.1} for {truth:.1}")))
    }

    /// When the last pulse began, or the flood.
    fn last_start(&self) -> Timestamp {
        match self.run.attack.pace() {
            Pace::Pulse { period, .. } => self.sent.start + period * (self.pulses() - 1),
            _ => self.sent.start,
        }
    }

    /// Of the last reading: the flood's sources since its onset, and the clients'.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn sources_error(&self) -> (f64, String) {
        let Some(alert) = self.last() else { return (f64::INFINITY, "no alert".to_owned()) };
        let before = match self.run.attack.pace() {
            Pace::Rising { .. } => self.sent.distinct_at(alert.since),
            _ => 0.0,
        };
        let truth = self.sent.distinct as f64 - before + f64::from(self.run.attack.clients());
        let seen = alert.evidence.flood().expect("of a flood").distinct_sources;
        ((seen - truth).abs() / truth, format!("{seen:.1} for {truth:.1}"))
    }
}

fn seconds_between(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}

fn judge_visible(outcome: &mut Outcome, truth: &Truth<'_>, name: &str) {
    let called = truth.watch.seen(AlertKind::SynFlood).len();
    outcome.incidents = called;
    outcome.fails(called > 0, || "called a SYN flood".to_owned());
    let ((before, tcp_before), (after, tcp_after)) = truth.visible;
    let (seen, tcp) = (after - before, tcp_after - tcp_before);
    let clients = truth.after.segments - truth.before.segments;
    let frames = outcome.frames;
    outcome.class_right = called == 0;
    outcome.listener_right = (frames..=frames + clients).contains(&seen) && tcp == frames + clients;
    let right = outcome.listener_right;
    outcome.fails(!right, || format!("{seen} {name} of {tcp} TCP for {frames} sent and {clients} of clients"));
}

/// SYNs and handshakes: as they were sent and as the kernel has them.
fn judge_counts(outcome: &mut Outcome, run: &Run<'_>, truth: &Truth<'_>) {
    let address = lab::wildcard(run.family);
    let ports = run.served_ports();
    let listeners = truth.listeners.listeners.iter();
    let (mut syns, mut completed) = (0, 0);
    for listener in listeners.filter(|listener| listener.address == address && ports.contains(&listener.port)) {
        syns += listener.syns_received;
        completed += listener.handshakes_completed;
    }
    let clients = truth.after.syns - truth.before.syns;
    // The one that asked the second time is not the clients'.
    let accepted = truth.after.accepted - truth.before.accepted - 1;
    let opened = truth.after.opened - truth.before.opened - 1;
    let is_syn = matches!(run.attack.expect, Expect::Flood(_));
    let expected = clients + if is_syn && run.attack.served { outcome.frames } else { 0 };
    let dropped = truth.after.dropped - truth.before.dropped;
    let mut wrong = Vec::new();
    if !(expected.saturating_sub(dropped)..=expected).contains(&syns) {
        wrong.push(format!("{syns} SYNs for {expected} sent, {dropped} dropped on the way"));
    }
    // What the kernel did not report cannot be counted; that it did not, must be said.
    let unseen = truth.after.unseen - truth.before.unseen;
    outcome.short = accepted.saturating_sub(completed);
    if completed > accepted || outcome.short > unseen {
        wrong.push(format!(
            "{completed} handshakes for {accepted} that nginx accepted and {opened} of the kernel's; {unseen} missed \
             by the daemon's own count"
        ));
    }
    // With cookies nobody is turned away: what a client has seen established, is.
    if run.cookies > 0 && dropped == 0 && truth.clients.established != accepted {
        wrong.push(format!("{} established for clients, {accepted} for nginx", truth.clients.established));
    }
    if !run.attack.served {
        let port = run.ports()[0];
        let seen = truth.listeners.no_listener.top_ports.iter().find(|entry| entry.port == port);
        let seen = seen.map_or(0, |entry| entry.syns);
        let frames = outcome.frames;
        if !(frames.saturating_sub(dropped)..=frames).contains(&seen) {
            wrong.push(format!("{seen} SYNs to no listener for {frames} sent, {dropped} dropped on the way"));
        }
    }
    outcome.exact = wrong.is_empty();
    outcome.failures.extend(wrong);
}
