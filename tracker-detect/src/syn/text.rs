//! What an operator reads: summary, advice and what is not known.

use std::fmt::Write;

use super::{
    facts::facts,
    queues::SMALL_BACKLOG,
    record::{Record, Subject, Unknown},
    sources::few_prefixes,
};
use crate::{alert::Report, estimators::rate::float};
use tracker_model::{
    api::{AlertKind, Class, Evidence, FloodEvidence},
    counters::NamespaceCounters,
    text::{counted, grouped, listener_place, number, percent, time, time_after},
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
        since_before: record.since_before,
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
    let mut line = format!("Port scan: {} without a listener tried", counted(ports.into(), "port"));
    if let Some(source) = evidence.top_sources.first().filter(|source| source.share >= 0.5) {
        let _ = write!(line, ", mostly from {}", source.source);
    }
    let _ = write!(line, ", {} SYN/s at most", number(evidence.peak_syn_rate));
    line
}

fn flood(record: &Record) -> String {
    let evidence = &record.evidence;
    let mut line = format!("SYN flood of {}: {} SYN/s from ", target(record), number(evidence.syn_rate));
    let sources = match evidence.distinct_sources {
        distinct if distinct >= 1.5 => format!("about {} addresses", number(distinct)),
        _ => "addresses".to_owned(),
    };
    let _ = match record.attribution.origin_name() {
        Some(origin) if record.attribution.class == Class::SingleSource => write!(line, "one source, {origin}"),
        Some(origin) => write!(line, "{sources} in {origin}"),
        None if record.unknown.contains(&Unknown::Sources) => write!(line, "sources not known yet"),
        None => write!(line, "{sources} all over (forged or a botnet)"),
    };
    if let Subject::Listener(_) = record.subject {
        let _ = write!(line, ", {} unanswered", unanswered(record));
    } else {
        line.push_str(", nothing listens there");
    }
    line
}

/// The part of the SYNs that nobody completes: of the last seconds or, of a flood that is over, of all of it. Not 100 %
/// while some complete.
fn unanswered(record: &Record) -> String {
    let evidence = &record.evidence;
    let (of, answered) = if record.firing {
        (evidence.syn_rate, evidence.syn_rate - evidence.unanswered_rate)
    } else {
        (float(evidence.syns), float(record.answered))
    };
    let share = if of > 0.0 { (1.0 - answered / of).clamp(0.0, 1.0) } else { 0.0 };
    if share < 1.0 && share > 0.99 { "over 99 %".to_owned() } else { format!("{:.0} %", 100.0 * share) }
}

fn accept(record: &Record) -> String {
    let evidence = &record.evidence;
    let mut line = format!("{}{}", target(record), how(record));
    if let Some(clients) = evidence.waiting_clients.filter(|clients| record.firing && *clients > 0) {
        let _ = write!(line, "about {} wait, ", counted(clients, "client"));
    }
    line + &arriving(record)
}

/// What is wrong, and with which queue.
fn how(record: &Record) -> String {
    let evidence = &record.evidence;
    let is_full = evidence.accept_queue > Some(0) && evidence.accept_queue >= evidence.accept_queue_max;
    let how = match (record.firing, evidence.completed_rate < 0.5) {
        (false, _) => " accepted too slowly",
        (true, true) if is_full => " does not accept",
        (true, _) => " accepts too slowly",
    };
    // The sum over a group hides one of its sockets that is full.
    let worst = evidence.worst_socket.as_ref().filter(|worst| worst.full > 0 && !is_full);
    match (worst, evidence.accept_queue, evidence.accept_queue_max) {
        (Some(worst), ..) => format!("{how}: {}", worst_socket(worst)),
        (None, Some(_), Some(most)) if !is_full => {
            format!(": its backlog of {} is too small for the bursts that come; ", grouped(most.into()))
        }
        (None, Some(length), Some(most)) => {
            format!("{how}: accept queue full ({}, limit {}); ", grouped(length.into()), grouped(most.into()))
        }
        _ => format!("{how}: "),
    }
}

/// What comes to a listener that does not accept. A client that is turned away repeats its SYN: most SYNs are no new
/// connections.
fn arriving(record: &Record) -> String {
    let evidence = &record.evidence;
    if !record.firing {
        let repeats = evidence.repeated_share.filter(|share| *share > 0.0);
        let repeats = repeats.map_or_else(String::new, |share| format!(", about {} of them repeats", percent(share)));
        return format!("{}{repeats}", counted(evidence.syns, "SYN"));
    }
    if evidence.syn_rate < 0.05 {
        return "no new connections now".to_owned();
    }
    let mut line = format!("{} SYN/s unanswered", number(evidence.unanswered_rate));
    if let Some(new) = evidence.new_connection_rate {
        let _ = write!(line, ", about {} new connections/s", number(new));
        if evidence.syn_rate - new >= 0.05 {
            line.push_str(", the rest repeats");
        }
    }
    line
}

fn worst_socket(worst: &WorstSocket) -> String {
    let [length, limit] = [worst.accept_queue, worst.accept_queue_max].map(|count| number(count.into()));
    let owner = worst.owner().map_or_else(String::new, |owner| format!("held by {owner}, "));
    let WorstSocket { full, sockets, .. } = worst;
    format!("{full} of its {sockets} sockets full ({length} of {limit}), {owner}")
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
        None => advice.push(all_over_advice(&record.evidence, port)),
    }
    if let Subject::Listener(_) = record.subject {
        advice.extend(queue_advice(&record.evidence, &record.namespace));
    } else {
        advice.push("The kernel answers each with a reset: drop the port in the firewall to save that.".into());
    }
    advice.join(" ")
}

/// Sources without a common prefix: forged ones, or those of a botnet. They may be in a few blocks all the same.
fn all_over_advice(evidence: &FloodEvidence, port: u16) -> String {
    let unanswered = evidence.unanswered_rate / evidence.syn_rate.max(f64::EPSILON);
    let Some((prefixes, share)) = few_prefixes(&evidence.top_prefixes, unanswered) else {
        return "Dropping by source does not help: there are too many addresses, forged ones or those of a botnet. Ask \
                the provider to filter."
            .to_owned();
    };
    let names = |six: bool| -> Vec<_> {
        prefixes.iter().filter(|net| net.addr().is_ipv6() == six).map(ToString::to_string).collect()
    };
    let rules: Vec<_> = [("ip", names(false)), ("ip6", names(true))]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(family, names)| format!("{family} saddr {{ {} }} tcp dport {port} drop", names.join(", ")))
        .collect();
    let all: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
    format!(
        "{} of the SYNs come from {}: drop them upstream or in the firewall ({}), unless real clients are there: \
         sources can be forged.",
        percent(share),
        all.join(", "),
        rules.join("; ")
    )
}

/// What the counters say of SYN cookies and the backlog. `namespace` says how the kernel is set: whether it sends
/// cookies, to whomever.
fn queue_advice(evidence: &FloodEvidence, namespace: &NamespaceCounters) -> Vec<String> {
    // Three quarters of tcp_max_syn_backlog are the limit when cookies are off; what it turns away is counted by the
    // listener alone (`tcp_conn_request`). Where its queue is not known, the namespace's count must do.
    let full =
        evidence.syn_queue.zip(evidence.syn_queue_max).map(|(length, most)| length > 0 && length >= most - most / 10);
    let dropped = evidence.dropped.filter(|dropped| full == Some(true) && *dropped > 0);
    let others = if full.is_none() { namespace.syn_queue_full_drops } else { 0 };
    let mut advice = Vec::new();
    if namespace.syncookies_sent > 0 {
        advice.push("SYN cookies are on: with them real clients still get through.".to_owned());
    } else if dropped.is_some() || others > 0 {
        let dropped = dropped.map_or_else(String::new, |dropped| format!(" ({} SYNs dropped)", grouped(dropped)));
        advice
            .push(format!("The SYN queue is full and SYN cookies are off{dropped}: sysctl net.ipv4.tcp_syncookies=1."));
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
        Unknown::SharedSources => {
            "sources while another port without a listener was flooded: they are counted together".to_owned()
        }
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
    use super::{
        super::{observation::ListenerId, sources::Attribution},
        *,
    };
    use tracker_model::api::SourceShare;

    #[test]
    fn what_a_full_syn_queue_turned_away_needs_cookies() {
        for (length, is_full) in [(380, true), (20, false)] {
            let (syn_queue, syn_queue_max, dropped) = (Some(length), Some(384), Some(12_000));
            let evidence = FloodEvidence { syn_queue, syn_queue_max, dropped, ..FloodEvidence::default() };
            let advice = queue_advice(&evidence, &NamespaceCounters::default()).join(" ");
            assert_eq!(advice.contains("(12,000 SYNs dropped)"), is_full, "{length}");
        }
    }

    /// An alert about the port 80 of a listener.
    fn record(class: Class, firing: bool, evidence: FloodEvidence) -> Record {
        let id = ListenerId { netns: 1, address: [192, 0, 2, 1].into(), port: 80, device: 0 };
        let attribution = Attribution { class, origin: None };
        let (kind, subject) = (attribution.kind(), Subject::Listener(id));
        let (answered, namespace, unknown) = (evidence.completed, NamespaceCounters::default(), Vec::new());
        let (device, since_before) = (None, false);
        Record { kind, attribution, subject, device, firing, since_before, evidence, answered, namespace, unknown }
    }

    #[test]
    fn who_does_not_accept_is_told_what_comes_and_how_much_of_it_is_new() {
        let full = FloodEvidence {
            syns: 2_967,
            syn_rate: 71.0,
            unanswered_rate: 71.0,
            new_connection_rate: Some(10.3),
            repeated_share: Some(0.85),
            accept_queue: Some(17),
            accept_queue_max: Some(16),
            ..FloodEvidence::default()
        };
        let said = |firing, change: fn(&mut FloodEvidence)| {
            let mut evidence = full.clone();
            change(&mut evidence);
            headline(&record(Class::SlowAccept, firing, evidence))
        };
        let queue = "accept queue full (17, limit 16)";
        assert_eq!(
            said(true, |_| {}),
            format!(
                "192.0.2.1:80 does not accept: {queue}; 71 SYN/s unanswered, about 10 new connections/s, the rest \
                 repeats"
            )
        );
        assert_eq!(
            said(true, |it| (it.completed_rate, it.new_connection_rate) = (5.0, Some(71.0))),
            format!("192.0.2.1:80 accepts too slowly: {queue}; 71 SYN/s unanswered, about 71 new connections/s")
        );
        assert_eq!(
            said(true, |it| (it.syn_rate, it.unanswered_rate) = (0.0, 0.0)),
            format!("192.0.2.1:80 does not accept: {queue}; no new connections now")
        );
        assert_eq!(
            said(false, |_| {}),
            format!("192.0.2.1:80 accepted too slowly: {queue}; 2,967 SYNs, about 85 % of them repeats")
        );
    }

    #[test]
    fn what_completes_is_not_unanswered() {
        let evidence = FloodEvidence {
            syns: 93_000,
            completed: 3_000,
            syn_rate: 3_104.0,
            unanswered_rate: 3_004.1,
            completed_rate: 99.9,
            ..FloodEvidence::default()
        };
        let said = |firing, evidence: &FloodEvidence| unanswered(&record(Class::Spoofed, firing, evidence.clone()));
        assert_eq!((said(true, &evidence), said(false, &evidence)), ("97 %".to_owned(), "97 %".to_owned()));
        let few = FloodEvidence { unanswered_rate: 3_103.0, completed: 1, ..evidence };
        assert_eq!((said(true, &few), said(false, &few)), ("over 99 %".to_owned(), "over 99 %".to_owned()));
    }

    #[test]
    fn where_a_few_prefixes_hold_nearly_all_the_advice_names_them_and_forgery_is_never_claimed() {
        let share = |source: &str, share| SourceShare { source: source.into(), share, error: 0.02, completes: false };
        let evidence = FloodEvidence {
            syn_rate: 3_000.0,
            unanswered_rate: 2_990.0,
            distinct_sources: 55_000.0,
            top_prefixes: vec![share("198.19.0.0/16", 0.494), share("198.18.0.0/16", 0.466)],
            ..FloodEvidence::default()
        };
        let two = record(Class::Spoofed, true, evidence.clone());
        assert!(
            headline(&two).contains(" from about 55,000 addresses all over (forged or a botnet), "),
            "{}",
            headline(&two)
        );
        let rule = "96 % of the SYNs come from 198.19.0.0/16, 198.18.0.0/16: drop them upstream or in the firewall \
                    (ip saddr { 198.19.0.0/16, 198.18.0.0/16 } tcp dport 80 drop)";
        assert!(advice(&two).starts_with(rule), "{}", advice(&two));
        let any = record(Class::Spoofed, true, FloodEvidence { top_prefixes: Vec::new(), ..evidence });
        assert!(advice(&any).starts_with("Dropping by source does not help: "), "{}", advice(&any));
    }
}
