//! What an operator reads of local ports: summary and advice.

use std::{fmt::Write as _, net::SocketAddr};

use super::advice::advice;
use crate::alert::Report;
use tracker_model::explain::Protocol;
use tracker_model::{
    api::{AlertKind, AlertSubject, Evidence, FailedCalls, PortEvidence, PortHolder, PortPool},
    text::{counted, grouped, span},
};

/// Writes the headline and the advice of a report from its figures.
pub(super) fn render(report: &mut Report) {
    let (Evidence::Ports(evidence), subject) = (&report.evidence, &report.subject) else { return };
    report.headline = match report.kind {
        AlertKind::PortAllocationFailed => failed(subject, evidence),
        AlertKind::BindConflict => conflict(subject, evidence),
        _ => exhaustion(subject, evidence),
    };
    report.advice = advice(report.kind, subject, evidence);
}

fn exhaustion(subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let whose = match (evidence.pool, subject.source) {
        (PortPool::Bind, Some(source)) => format!("Local ports that bind() can choose on {source}"),
        (_, Some(source)) => format!("Local ports from {source} to {}", destination(subject)),
        (_, None) => format!("Local ports to {}", destination(subject)),
    };
    let left = evidence.capacity.saturating_sub(used(evidence));
    let mut line = if left == 0 { format!("{whose} are gone: ") } else { format!("{whose} run out: ") };
    line.push_str(&share(evidence));
    if let Some(seconds) = evidence.full_in_seconds.filter(|_| left > 0) {
        let _ = write!(line, ", full in {}", span(seconds));
    }
    line
}

fn failed(subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let mut line = format!("connect() to {}", destination(subject));
    if let Some(source) = subject.source {
        let _ = write!(line, " from {source}");
    }
    let _ = write!(line, " found no free local port: {}", calls(evidence));
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
        let _ = write!(line, "; held by {}", named(holder));
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
    let (used, capacity) = (used(evidence), evidence.capacity);
    let percent = 100.0 * evidence.used_ratio.unwrap_or_default();
    // Not 100 % while there is one left.
    let percent = if used < capacity { percent.min(99.0) } else { percent };
    let mut line = format!("{} of {} used ({percent:.0} %)", grouped(used.into()), grouped(capacity.into()));
    let held = held(evidence);
    if held > 0 {
        let _ = write!(line, ", {} of them in TIME_WAIT", grouped(held.into()));
    }
    line
}

/// Ports that no new connection can have.
pub(super) fn used(evidence: &PortEvidence) -> u32 {
    evidence.in_use.unwrap_or_default().saturating_sub(evidence.reusable.unwrap_or_default())
}

/// Those of them in `TIME_WAIT`.
pub(super) fn held(evidence: &PortEvidence) -> u32 {
    evidence.time_wait.unwrap_or_default().saturating_sub(evidence.reusable.unwrap_or_default())
}

/// `nginx (pid 815)`.
pub(super) fn named(holder: &PortHolder) -> String {
    format!("{} (pid {})", holder.comm, holder.pid)
}

fn destination(subject: &AlertSubject) -> String {
    match (subject.destination, subject.destination_port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        _ => "any destination".to_owned(),
    }
}
