//! The figures that an alert rests on, line by line, and what it befalls.

mod flood;
mod ports;

use std::fmt::Write as _;

use tracker_model::{
    api::{Alert, AlertKind, AlertSubject, Evidence, Fact, FactValue, Unit},
    explain::Protocol,
};

use super::format::{address_port, count, printable, process, span, whole};

pub(super) use flood::share;
pub(super) use ports::{holders, states};

/// Width of the names of the lines.
const NAMES: usize = 12;

/// The name of a line, and what stands in it; none when there is nothing to say.
type Line = (&'static str, Option<String>);

/// Everything that is known of an alert, each line indented.
pub(super) fn render(alert: &Alert) -> String {
    let figures = match &alert.evidence {
        Evidence::Flood(evidence) => flood::lines(alert, evidence),
        Evidence::Ports(evidence) => ports::lines(alert, evidence),
        Evidence::Facts(_) => Vec::new(),
    };
    let facts = alert.facts.iter().map(|fact| (printable(&fact.label), Some(value(fact))));
    let figures = figures.into_iter().map(|(name, line)| (name.to_owned(), line)).chain(facts);
    let words = [
        ("advice", (!alert.advice.is_empty()).then(|| printable(&alert.advice))),
        ("not known", (!alert.unknown.is_empty()).then(|| printable(&alert.unknown.join("; ")))),
    ];
    let mut text = String::new();
    for (name, line) in figures.chain(words.map(|(name, line)| (name.to_owned(), line))) {
        if let Some(line) = line {
            let _ = writeln!(text, "    {name:<NAMES$} {line}");
        }
    }
    text
}

fn value(fact: &Fact) -> String {
    match (&fact.value, fact.unit) {
        (FactValue::Text(text), _) => printable(text),
        (FactValue::Count(number), Unit::None) => count(*number),
        (FactValue::Number(number), Unit::None) => whole(*number),
        #[expect(clippy::cast_precision_loss, reason = "a time is rounded anyway")]
        (FactValue::Count(number), Unit::SecondsAtLeast) => format!(">={}", span(*number as f64)),
        (FactValue::Number(number), Unit::SecondsAtLeast) => format!(">={}", span(*number)),
    }
}

/// What an alert is about, in a cell.
pub(super) fn subject(alert: &Alert) -> String {
    let subject = &alert.subject;
    let place = match &alert.evidence {
        Evidence::Facts(_) => subject.object.as_deref().map(printable),
        Evidence::Ports(_) if alert.kind == AlertKind::BindConflict => Some(bound(subject)),
        Evidence::Ports(_) => Some(connection(subject)),
        Evidence::Flood(_) => Some(listener(subject)),
    };
    let process = subject.process.as_ref().map(|of| process(of.pid, &of.comm));
    let parts: Vec<_> = place.into_iter().chain(process).collect();
    if parts.is_empty() { "process not known".to_owned() } else { parts.join(" ") }
}

fn listener(subject: &AlertSubject) -> String {
    match (subject.address, subject.port) {
        (Some(address), Some(port)) => address_port(&address.to_string(), port),
        (Some(address), None) => address.to_string(),
        (None, Some(port)) => format!("port {port}, no listener"),
        (None, None) => "no listener".to_owned(),
    }
}

/// Source and destination, of which the source may not be known; without a destination the ports of `bind()`.
fn connection(subject: &AlertSubject) -> String {
    let source = subject.source.map(|source| source.to_string());
    match (source, subject.destination, subject.destination_port) {
        (Some(source), None, _) => format!("bind() on {source}"),
        (source, Some(destination), port) => {
            let destination = address_port(&destination.to_string(), port.unwrap_or_default());
            source.map_or_else(|| format!("-> {destination}"), |source| format!("{source} -> {destination}"))
        }
        (None, None, _) => "any destination".to_owned(),
    }
}

fn bound(subject: &AlertSubject) -> String {
    let address = subject.address.map_or_else(|| "any address".to_owned(), |address| address.to_string());
    let udp = if subject.protocol == Some(Protocol::Udp) { " (UDP)" } else { "" };
    match subject.port.filter(|port| *port != 0) {
        Some(port) => format!("bind() to {}{udp}", address_port(&address, port)),
        None => format!("bind() to {address}, any port{udp}"),
    }
}
