//! What an operator reads of local ports: headline and facts.

use std::{fmt::Write as _, net::SocketAddr};

use super::advice::advice;
use crate::alert::Report;
use tracker_model::explain::Protocol;
use tracker_model::{
    api::{AlertKind, AlertSubject, Evidence, Fact, FailedCalls, PortEvidence, PortPool, Severity, Unit},
    text::{self, counted, grouped, span},
};

/// A report of what is known, with all its text.
#[must_use]
pub fn report(
    kind: AlertKind,
    severity: Severity,
    subject: AlertSubject,
    evidence: PortEvidence,
    unknown: Vec<String>,
) -> Report {
    let mut report = Report { unknown, ..Report::new(kind, severity, subject, Evidence::Ports(evidence)) };
    render(&mut report);
    report
}

/// Writes the headline, the facts and the advice of a report from its evidence.
pub(crate) fn render(report: &mut Report) {
    let (Evidence::Ports(evidence), subject) = (&report.evidence, &report.subject) else { return };
    report.headline = match report.kind {
        AlertKind::PortAllocationFailed => failed(subject, evidence),
        AlertKind::BindConflict => conflict(subject, evidence),
        _ => exhaustion(subject, evidence),
    };
    report.advice = advice(report.kind, subject, evidence);
    report.facts = facts(report.kind, subject, evidence);
}

/// Keeps the highest share so far.
pub(crate) fn keep_peak(report: &mut Report, before: &Evidence) {
    if let (Evidence::Ports(now), Evidence::Ports(before)) = (&mut report.evidence, before) {
        now.peak_used_ratio = [now.peak_used_ratio, before.peak_used_ratio].into_iter().flatten().reduce(f64::max);
        render(report);
    }
}

fn exhaustion(subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let whose = match (evidence.pool, subject.source) {
        (PortPool::Bind, Some(source)) => format!("Local ports that bind() can choose on {source}"),
        (PortPool::Udp, _) if is_of_ipv6(evidence) => "UDP ports of IPv6 sockets".to_owned(),
        (PortPool::Udp, _) => "UDP ports".to_owned(),
        (_, Some(source)) => format!("Local ports{} from {source} to {}", own(subject), destination(subject)),
        (_, None) => format!("Local ports{} to {}", own(subject), destination(subject)),
    };
    let left = evidence.capacity.saturating_sub(evidence.used());
    let mut line = if left == 0 { format!("{whose} are gone: ") } else { format!("{whose} run out: ") };
    line.push_str(&share(evidence));
    if let Some(seconds) = evidence.full_in_seconds.filter(|_| left > 0) {
        let _ = write!(line, ", full in {}", span(seconds));
    }
    if let Some(holder) = evidence.processes.first().filter(|_| evidence.pool == PortPool::Udp) {
        let _ = write!(line, "; most held by {}", holder.process());
    }
    line
}

/// Whether IPv4 sockets still find ports: what is in use is that of IPv6 sockets alone.
fn is_of_ipv6(evidence: &PortEvidence) -> bool {
    let (ipv4, all) = (evidence.ipv4_in_use.unwrap_or_default(), evidence.in_use.unwrap_or_default());
    u64::from(ipv4) * 10 < u64::from(all) * 9
}

/// ` 40000-40099 (IP_LOCAL_PORT_RANGE)`; nothing where that is not set.
fn own(subject: &AlertSubject) -> String {
    subject.local_port_range.map_or_else(String::new, |range| format!(" {range} (IP_LOCAL_PORT_RANGE)"))
}

fn failed(subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let mut line = format!("connect() to {}", destination(subject));
    if let Some(source) = subject.source {
        let _ = write!(line, " from {source}");
    }
    let within = if subject.local_port_range.is_some() { " among" } else { "" };
    let _ = write!(line, " found no free local port{within}{}: {}", own(subject), calls(evidence));
    if evidence.in_use.is_some() {
        let _ = write!(line, "; {}", share(evidence));
    }
    line
}

fn conflict(subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let address = subject.address.map(|address| SocketAddr::new(address, subject.port.unwrap_or_default()));
    let address = address.map_or_else(String::new, |address| format!(" to {address}"));
    let protocol = subject.protocol.filter(|protocol| *protocol != Protocol::Tcp);
    let protocol = protocol.map_or_else(String::new, |protocol| format!(" ({protocol})"));
    let mut line = format!("bind(){address}{protocol} failed, the address is in use: {}", calls(evidence));
    if let Some(holder) = evidence.processes.first() {
        let _ = write!(line, "; held by {}", holder.process());
    }
    line
}

/// `12 calls failed, most of curl (pid 77)`.
fn calls(evidence: &PortEvidence) -> String {
    let mut line = format!("{} failed", counted(evidence.failures, "call"));
    if let Some(FailedCalls { pid, comm, .. }) = evidence.failed.first() {
        let most = if evidence.failed.len() == 1 { "all" } else { "most" };
        let _ = write!(line, ", {most} of {comm} (pid {pid})");
    }
    line
}

/// `900 of 1,000 used (90 %), 400 of them in TIME_WAIT`.
fn share(evidence: &PortEvidence) -> String {
    let (used, capacity) = (evidence.used(), evidence.capacity);
    let percent = 100.0 * evidence.used_ratio.unwrap_or_default();
    // Not 100 % while there is one left.
    let percent = if used < capacity { percent.min(99.0) } else { percent };
    let mut line = format!("{} of {} used ({percent:.0} %)", grouped(used.into()), grouped(capacity.into()));
    let held = evidence.held_by_time_wait();
    if held > 0 {
        let _ = write!(line, ", {} of them in TIME_WAIT", grouped(held.into()));
    }
    line
}

fn destination(subject: &AlertSubject) -> String {
    match (subject.destination, subject.destination_port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        _ => "any destination".to_owned(),
    }
}

fn facts(kind: AlertKind, subject: &AlertSubject, evidence: &PortEvidence) -> Vec<Fact> {
    // A port that was named is held or not: how many others are in use does not matter.
    let one_port = kind == AlertKind::BindConflict && subject.port.is_some_and(|port| port != 0);
    let lines = [
        ("in_use", "ports", (!one_port).then(|| ports(evidence))),
        ("ipv4_in_use", "IPv4", evidence.ipv4_in_use.map(|ports| ipv4(ports, evidence.capacity))),
        ("states", "states", text::states(&evidence.states)),
        ("growth_per_second", "growth", growth(evidence)),
        ("failed", "failed", failures(evidence)),
        ("processes", "held by", text::holders(&evidence.processes)),
        ("made_by", "connect() by", text::makers(&evidence.made_by)),
        ("range", "range", (!one_port).then(|| range(evidence))),
    ];
    let fact = |(name, label, line): (_, _, Option<String>)| Some(Fact::new(name, label, line?, Unit::None));
    lines.into_iter().filter_map(fact).collect()
}

fn ports(evidence: &PortEvidence) -> String {
    let capacity = grouped(evidence.capacity.into());
    let Some(in_use) = evidence.in_use else {
        return format!("{} of {capacity}", text::UNKNOWN);
    };
    let mut line = format!("{} of {capacity} in use", grouped(in_use.into()));
    if let Some(ratio) = evidence.used_ratio {
        let _ = write!(line, ", {} % used up", text::used(ratio));
    }
    if let Some(peak) = evidence.peak_used_ratio {
        let _ = write!(line, ", {} % at most", text::used(peak));
    }
    if let Some(time_wait) = evidence.time_wait.filter(|waiting| *waiting > 0) {
        let count = |ports: Option<u32>| grouped(ports.unwrap_or_default().into());
        let [now, then] = [evidence.reusable, evidence.recyclable].map(count);
        let waiting = grouped(time_wait.into());
        let _ = write!(line, "; {waiting} in TIME_WAIT, {now} of them reusable ({then} with tcp_tw_reuse=1)");
    }
    line
}

/// Of UDP: what an IPv4 socket has left.
fn ipv4(in_use: u32, capacity: u32) -> String {
    let [in_use, capacity] = [in_use, capacity].map(|ports| grouped(ports.into()));
    format!("{in_use} of {capacity} not to be had by an IPv4 socket")
}

fn growth(evidence: &PortEvidence) -> Option<String> {
    let mut line = format!("{}/s", text::growth(evidence.growth_per_second?));
    if let Some(seconds) = evidence.full_in_seconds {
        let when = text::full_in(seconds, evidence.used_ratio.unwrap_or_default());
        let _ = write!(line, ", full {}{when}", if when.starts_with('~') { "in " } else { "" });
    }
    Some(line)
}

fn failures(evidence: &PortEvidence) -> Option<String> {
    if evidence.failures == 0 && evidence.failed.is_empty() {
        return None;
    }
    let mut line = format!("{} since onset", grouped(evidence.failures));
    let by = |by: &FailedCalls| {
        let (process, failures) = (text::process(by.pid, &by.comm), grouped(by.failures));
        format!("{process} {failures} (uid {}, cgroup {})", by.uid, by.cgroup)
    };
    let by: Vec<_> = evidence.failed.iter().map(by).collect();
    if !by.is_empty() {
        let _ = write!(line, "; since the daemon started {}", text::printable(&by.join(", ")));
    }
    Some(line)
}

fn range(evidence: &PortEvidence) -> String {
    let PortEvidence { range, reserved, bound, tw_reuse, .. } = evidence;
    let [reserved, bound] = [reserved, bound].map(|ports| grouped((*ports).into()));
    if evidence.pool == PortPool::Udp {
        return format!("{range}, {reserved} reserved");
    }
    let own = evidence.local_port_range.map(|own| format!("{own} set by the sockets (IP_LOCAL_PORT_RANGE), of "));
    format!("{}{range}, {reserved} reserved, {bound} bound by bind(), tcp_tw_reuse {tw_reuse}", own.unwrap_or_default())
}
