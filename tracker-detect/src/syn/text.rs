//! What an operator reads: summary, advice and what is not known.

use std::fmt::Write;

use super::{
    facts::facts,
    queues::SMALL_BACKLOG,
    record::{Record, Subject, Unknown},
};
use crate::alert::Report;
use tracker_model::{
    api::{AlertKind, Class, Evidence, FloodEvidence},
    text::{counted, grouped, listener_place, number, time, time_after},
    worst_socket::WorstSocket,
};

/// All that is said of an alert.
pub fn render(record: &Record) -> Report {
    let evidence = Evidence::Flood(record.evidence.clone());
    Report {
        class: Some(record.attribution.class),
        headline: headline(record),
        facts: facts(&record.evidence, record.firing, matches!(record.subject, Subject::Listener(_))),
        advice: advice(record),
        unknown: record.unknown.iter().map(unknown).collect(),
        ..Report::new(record.kind, record.severity(), record.subject_for_api(), evidence)
    }
}

fn headline(record: &Record) -> String {
    match record.kind {
        AlertKind::SynFlood => flood(record),
        AlertKind::AcceptOverflow => accept(record),
        _ => scan(&record.evidence),
    }
}

fn scan(evidence: &FloodEvidence) -> String {
    let ports = evidence.ports.unwrap_or_default();
    let mut line = format!("Port scan: up to {} ports without a listener tried", number(f64::from(ports)));
    if let Some(source) = evidence.top_sources.first().filter(|source| source.share >= 0.5) {
        let _ = write!(line, ", mostly from {}", source.source);
    }
    let _ = write!(line, ", {} SYN/s", number(evidence.syn_rate));
    line
}

fn flood(record: &Record) -> String {
    let evidence = &record.evidence;
    let mut line = format!("SYN flood of {}: {} SYN/s from ", target(record), number(evidence.syn_rate));
    let sources = match evidence.distinct_sources {
        distinct if distinct >= 1.5 => format!("about {} sources", number(distinct)),
        _ => "sources".to_owned(),
    };
    let _ = match record.attribution.origin_name() {
        Some(origin) if record.attribution.class == Class::SingleSource => write!(line, "one source, {origin}"),
        Some(origin) => write!(line, "{sources} in {origin}"),
        None if record.unknown.contains(&Unknown::Sources) => write!(line, "sources not known yet"),
        None => write!(line, "{sources} all over (spoofed)"),
    };
    if let Subject::Listener(_) = record.subject {
        let share = if evidence.syn_rate > 0.0 { evidence.unanswered_rate / evidence.syn_rate } else { 0.0 };
        let _ = write!(line, ", {:.0} % unanswered", 100.0 * share);
    } else {
        line.push_str(", nothing listens there");
    }
    line
}

fn accept(record: &Record) -> String {
    let evidence = &record.evidence;
    let mut line = target(record);
    let is_full = evidence.accept_queue > Some(0) && evidence.accept_queue >= evidence.accept_queue_max;
    // The sum over a group hides one of its sockets that is full.
    let worst = evidence.worst_socket.as_ref().filter(|worst| worst.full > 0 && !is_full);
    match (worst, evidence.accept_queue, evidence.accept_queue_max) {
        (Some(worst), ..) => line.push_str(&worst_socket(worst)),
        (None, Some(_), Some(most)) if !is_full => {
            let most = number(most.into());
            let _ = write!(line, ": its backlog of {most} is too small for the bursts that come, ");
        }
        (None, Some(length), Some(most)) => {
            let [length, most] = [length, most].map(|count| number(count.into()));
            let _ = write!(line, " accepts too slowly: accept queue {length} of {most}, ");
        }
        _ => line.push_str(" accepts too slowly: "),
    }
    if let Some(clients) = evidence.waiting_clients.filter(|clients| *clients > 0) {
        let _ = write!(line, "about {} wait, ", counted(clients, "client"));
    }
    let _ = write!(line, "{} connections/s turned away", number(evidence.unanswered_rate));
    line
}

fn worst_socket(worst: &WorstSocket) -> String {
    let [length, limit] = [worst.accept_queue, worst.accept_queue_max].map(|count| number(count.into()));
    let owner = worst.owner().map_or_else(String::new, |owner| format!("held by {owner}, "));
    let WorstSocket { full, sockets, .. } = worst;
    format!(" accepts too slowly: {full} of its {sockets} sockets full ({length} of {limit}), {owner}")
}

/// What to do.
fn advice(record: &Record) -> String {
    match record.kind {
        AlertKind::SynFlood => flood_advice(record),
        AlertKind::AcceptOverflow => accept_advice(&record.evidence),
        _ => "Nothing is harmed. See that no service listens where it should not: `tracker listeners`.".to_owned(),
    }
}

fn flood_advice(record: &Record) -> String {
    let mut advice = Vec::new();
    let port = record.subject_for_api().port.unwrap_or_default();
    match record.attribution.origin_name() {
        Some(origin) => {
            let family = if origin.contains(':') { "ip6" } else { "ip" };
            advice.push(format!(
                "Drop {origin} upstream or in the firewall ({family} saddr {origin} tcp dport {port} drop), unless \
                 real clients are there: sources can be forged."
            ));
        }
        None if record.unknown.contains(&Unknown::Sources) => {
            advice.push("Whether dropping by source would help is not known yet: sources were not read.".into());
        }
        None => {
            advice.push("Dropping by source does not help, addresses are forged: ask the provider to filter.".into());
        }
    }
    if let Subject::Listener(_) = record.subject {
        advice.extend(queue_advice(&record.evidence));
    } else {
        advice.push("The kernel answers each with a reset: drop the port in the firewall to save that.".into());
    }
    advice.join(" ")
}

/// What the counters say of SYN cookies and the backlog. The counters are the namespace's.
fn queue_advice(evidence: &FloodEvidence) -> Vec<String> {
    let count = |name: &str| evidence.namespace.get(name).copied().unwrap_or_default();
    let cookies = count("SyncookiesSent");
    // Three quarters of tcp_max_syn_backlog are the limit when cookies are off; what it turns away is counted by the
    // listener alone (`tcp_conn_request`), what the backlog turns away by the namespace too.
    let full =
        evidence.syn_queue >= evidence.syn_queue_max.map(|most| most - most / 10) && evidence.syn_queue > Some(0);
    let dropped = count("TCPReqQFullDrop").max(evidence.dropped.filter(|_| full).unwrap_or_default());
    let mut advice = Vec::new();
    if cookies > 0 {
        advice.push(format!(
            "This namespace sent {} SYN cookies since the onset: with them real clients still get through.",
            grouped(cookies)
        ));
    } else if dropped > 0 {
        advice.push(format!(
            "The SYN queue is full and SYN cookies are off ({} SYNs dropped): sysctl net.ipv4.tcp_syncookies=1.",
            grouped(dropped)
        ));
    }
    if let Some(most) = evidence.accept_queue_max.filter(|most| *most < SMALL_BACKLOG) {
        advice.push(format!("The backlog of {most} is small: raise it in the application and net.core.somaxconn."));
    }
    advice
}

fn accept_advice(evidence: &FloodEvidence) -> String {
    let mut advice =
        "This is no flood: the application does not call accept() fast enough. See what it waits for; give it \
                      more workers."
            .to_owned();
    if let Some(most) = evidence.accept_queue_max.filter(|most| *most < SMALL_BACKLOG) {
        let _ = write!(
            advice,
            " If it only fails to keep up with bursts, raise its backlog of {most} and net.core.somaxconn."
        );
    }
    advice
}

/// What is not known, and why.
fn unknown(unknown: &Unknown) -> String {
    match unknown {
        Unknown::Closed(at) => format!("the listener closed at {} UTC; SYNs to its port are followed", time(*at)),
        Unknown::Restarted(at) => format!("the listener's counters began again at {} UTC", time(*at)),
        Unknown::Gap(from, to) => {
            format!("nothing was observed from {} to {} UTC; it may have paused", time(*from), time_after(*from, *to))
        }
        Unknown::Queues => "no queues of the onset: whether the accept queue was full then is not known".to_owned(),
        Unknown::Sources => "sources were not read yet: one source or many is not known".to_owned(),
        Unknown::Census(error) => format!("the last census failed, queues may be old: {error}"),
    }
}

fn target(record: &Record) -> String {
    let subject = record.subject_for_api();
    match (subject.address, subject.port) {
        (Some(address), Some(port)) => listener_place(address, subject.device.as_deref(), port),
        (_, Some(port)) => format!("port {port}"),
        (_, None) => "ports without a listener".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_syn_queue_turned_away_needs_cookies() {
        for (length, is_full) in [(380, true), (20, false)] {
            let (syn_queue, syn_queue_max, dropped) = (Some(length), Some(384), Some(12_000));
            let evidence = FloodEvidence { syn_queue, syn_queue_max, dropped, ..FloodEvidence::default() };
            assert_eq!(queue_advice(&evidence).join(" ").contains("(12,000 SYNs dropped)"), is_full, "{length}");
        }
    }
}
