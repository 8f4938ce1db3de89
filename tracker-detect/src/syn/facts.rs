//! The figures of an alert, line by line, as an operator reads them.

use std::fmt::Write as _;

use tracker_model::{
    api::{Fact, FloodEvidence, SourceShare, Unit},
    text::{counted, grouped, known, percent, rate, time, whole},
};

/// What `evidence` says. `firing` is whether the alert goes on, and `listener` whether it is of a listener.
#[must_use]
pub fn facts(evidence: &FloodEvidence, firing: bool, listener: bool) -> Vec<Fact> {
    let lines = [
        ("rates", "rates", Some(rates(evidence, firing, listener))),
        ("since_onset", "since onset", Some(since_onset(evidence))),
        ("sources", "sources", sources(evidence)),
        ("prefixes", "prefixes", shares(&evidence.top_prefixes)),
        ("listener", "listener", queues(evidence)),
        ("worst_socket", "worst socket", worst_socket(evidence)),
        ("waiting", "waiting", waiting(evidence)),
    ];
    let fact = |(name, label, line): (_, _, Option<String>)| Some(Fact::new(name, label, line?, Unit::None));
    lines.into_iter().filter_map(fact).collect()
}

fn rates(evidence: &FloodEvidence, firing: bool, listener: bool) -> String {
    let mut line = format!(
        "{} SYN/s {}, {} at most; {}/s unanswered",
        rate(evidence.syn_rate),
        if firing { "now" } else { "at the end" },
        rate(evidence.peak_syn_rate),
        rate(evidence.unanswered_rate),
    );
    if let Some(new) = evidence.new_connection_rate {
        let _ = write!(line, ", ~{}/s repeat no earlier one", rate(new));
    }
    // Where nothing listens nothing is completed.
    if listener {
        let [now, usual] = [evidence.completed_rate, evidence.usual_completed_rate].map(rate);
        let _ = write!(line, "; {now}/s completed, usually {usual}/s");
    }
    line
}

fn since_onset(evidence: &FloodEvidence) -> String {
    let mut line = format!("{} SYNs", grouped(evidence.syns));
    if let Some(share) = evidence.repeated_share {
        let _ = write!(line, ", about {} of them repeats", percent(share));
    }
    if let Some(share) = evidence.completed_share {
        let _ = write!(line, ", about {} of the connections completed", percent(share));
    }
    if let Some(ports) = evidence.ports {
        let _ = write!(line, ", to {}", counted(ports.into(), "port"));
    }
    if evidence.undelivered > 0 {
        let _ = write!(line, "; {} more did not reach TCP here", grouped(evidence.undelivered));
        if !evidence.drop_reasons.is_empty() {
            let _ = write!(line, ", dropped for {}", evidence.drop_reasons.join(", "));
        }
    }
    if evidence.pulses > 0 {
        let _ = write!(line, ", began again after {}", counted(evidence.pulses.into(), "pause"));
    }
    line
}

fn sources(evidence: &FloodEvidence) -> Option<String> {
    let top = shares(&evidence.top_sources);
    if evidence.distinct_sources < 0.5 {
        return top;
    }
    let [distinct, error] = [whole(evidence.distinct_sources), percent(evidence.distinct_sources_error)];
    let distinct = format!("~{distinct} distinct (standard error {error})");
    Some([Some(distinct), top].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

fn shares(shares: &[SourceShare]) -> Option<String> {
    let shares: Vec<_> = shares.iter().map(SourceShare::to_string).collect();
    (!shares.is_empty()).then(|| shares.join(", "))
}

/// Queues against their limit, as the last census saw them.
fn queues(evidence: &FloodEvidence) -> Option<String> {
    let FloodEvidence { half_open, syn_queue, accept_queue, dropped, .. } = *evidence;
    half_open.or(syn_queue).or(accept_queue).map(u64::from).or(dropped)?;
    let since = evidence.dropped_since.map_or_else(|| "listen()".to_owned(), |since| format!("{} UTC", time(since)));
    let since = if dropped.is_some() { format!(" since {since}") } else { String::new() };
    Some(format!(
        "half-open {}, SYN queue {}/{} ({} young), accept queue {}/{}, {} turned away{since}",
        known(half_open),
        known(syn_queue),
        known(evidence.syn_queue_max),
        known(evidence.syn_queue_young),
        known(accept_queue),
        known(evidence.accept_queue_max),
        known(dropped),
    ))
}

/// The socket that is worst off, where one of several is full.
fn worst_socket(evidence: &FloodEvidence) -> Option<String> {
    let worst = evidence.worst_socket.as_ref().filter(|worst| worst.full > 0)?;
    let owner = worst.owner().map_or_else(String::new, |owner| format!(", {owner}"));
    Some(format!("accept queue {worst}{owner}, inode {}", worst.inode))
}

/// Who waits for a full accept queue.
fn waiting(evidence: &FloodEvidence) -> Option<String> {
    let clients = evidence.waiting_clients.filter(|clients| *clients > 0)?;
    Some(format!(
        "~{} not accepted, each counted once; the rest of the SYNs are repeats",
        counted(clients, "connection")
    ))
}
