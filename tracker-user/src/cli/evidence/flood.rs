//! The figures of a flood, of an application that accepts too slowly, of a scan.

use std::fmt::Write as _;

use tracker_model::api::{Alert, AlertState, FloodEvidence, SourceShare};

use super::Line;
use crate::cli::format::{count, known, percent, printable, rate, whole};

/// All of them, line by line.
pub(super) fn lines(alert: &Alert, evidence: &FloodEvidence) -> Vec<Line> {
    vec![
        ("rates", Some(rates(alert, evidence))),
        ("since onset", Some(since_onset(evidence))),
        ("sources", sources(evidence)),
        ("prefixes", shares(&evidence.top_prefixes)),
        ("listener", listener(evidence)),
        ("namespace", namespace(evidence)),
    ]
}

/// A source and its share with the error.
pub(in crate::cli) fn share(of: &SourceShare) -> String {
    format!("{} {:.1}±{:.1} %", printable(&of.source), of.share * 100.0, of.error * 100.0)
}

fn rates(alert: &Alert, evidence: &FloodEvidence) -> String {
    let when = if alert.state == AlertState::Firing { "now" } else { "at the end" };
    let mut line = format!(
        "{} SYN/s {when}, {} at most; {}/s unanswered",
        rate(evidence.syn_rate),
        rate(evidence.peak_syn_rate),
        rate(evidence.unanswered_rate),
    );
    // Where nothing listens nothing is completed.
    if alert.subject.address.is_some() {
        let [now, usual] = [evidence.completed_rate, evidence.usual_completed_rate].map(rate);
        let _ = write!(line, "; {now}/s completed, usually {usual}/s");
    }
    line
}

fn since_onset(evidence: &FloodEvidence) -> String {
    let mut line = format!("{} SYNs", count(evidence.syns));
    if let Some(share) = evidence.repeated_share {
        let _ = write!(line, ", about {} of them repeats", percent(share));
    }
    if let Some(share) = evidence.completed_share {
        let _ = write!(line, ", about {} of the connections completed", percent(share));
    }
    if let Some(ports) = evidence.ports {
        let _ = write!(line, ", to at most {} ports", count(ports.into()));
    }
    if evidence.pulses > 0 {
        let noun = if evidence.pulses == 1 { "pause" } else { "pauses" };
        let _ = write!(line, ", began anew after {} {noun}", count(evidence.pulses.into()));
    }
    line
}

fn sources(evidence: &FloodEvidence) -> Option<String> {
    let top = shares(&evidence.top_sources);
    if evidence.distinct_sources < 0.5 {
        return top;
    }
    let distinct = format!(
        "~{} distinct (standard error {})",
        whole(evidence.distinct_sources),
        percent(evidence.distinct_sources_error)
    );
    Some(top.map_or_else(|| distinct.clone(), |top| format!("{distinct}; {top}")))
}

fn shares(shares: &[SourceShare]) -> Option<String> {
    let shares: Vec<_> = shares.iter().map(share).collect();
    (!shares.is_empty()).then(|| shares.join(", "))
}

/// Queues against their limit, as the last census saw them.
fn listener(evidence: &FloodEvidence) -> Option<String> {
    let FloodEvidence {
        half_open,
        syn_queue,
        syn_queue_young,
        syn_queue_max,
        accept_queue,
        accept_queue_max,
        dropped,
        ..
    } = *evidence;
    if [half_open, syn_queue, accept_queue].iter().all(Option::is_none) && dropped.is_none() {
        return None;
    }
    Some(format!(
        "half-open {}, SYN queue {}/{} ({} young), accept queue {}/{}, {} turned away since onset",
        known(half_open),
        known(syn_queue),
        known(syn_queue_max),
        known(syn_queue_young),
        known(accept_queue),
        known(accept_queue_max),
        known(dropped),
    ))
}

/// Only what moved.
fn namespace(evidence: &FloodEvidence) -> Option<String> {
    let moved: Vec<_> = evidence
        .namespace
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, moved)| format!("{} +{}", printable(name), count(*moved)))
        .collect();
    (!moved.is_empty()).then(|| format!("{} since onset, all its listeners together", moved.join(", ")))
}
