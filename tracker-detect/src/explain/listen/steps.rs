//! The way of a SYN, step by step, with what was found.

use std::fmt::Write as _;

use tracker_model::{
    explain::{DropCount, ListenCause, SocketObservation, Step, StepState, StepSubject},
    text::{counted, grouped},
};

use super::{case::Case, processes, text};

/// All steps.
pub(super) fn steps(cause: ListenCause, blocked: bool, case: &Case<'_>) -> Vec<Step> {
    let broken = broken(cause).filter(|_| blocked);
    let all = [
        (StepSubject::Address, address(case)),
        (StepSubject::Arrival, arrival(case)),
        (StepSubject::Delivery, delivery(case)),
        (StepSubject::Listener, listener(case)),
        (StepSubject::Queues, queues(case)),
        (StepSubject::Handshakes, handshakes(case)),
    ];
    let step = |(subject, (known, text)): (StepSubject, (bool, String))| {
        let state = match known {
            _ if Some(subject) == broken => StepState::Problem,
            true => StepState::Ok,
            false => StepState::Unknown,
        };
        Step { subject, state, text }
    };
    all.into_iter().map(step).collect()
}

/// The step at which a cause lies.
const fn broken(cause: ListenCause) -> Option<StepSubject> {
    use ListenCause as C;
    if !cause.is_blocking() {
        return None;
    }
    Some(match cause {
        C::AddressNotLocal | C::InterfaceDown => StepSubject::Address,
        C::NothingListens | C::OtherAddress | C::LoopbackOnly | C::Ipv6Only | C::Ipv4Only | C::OtherDevice => {
            StepSubject::Listener
        }
        C::SynQueueFull | C::AcceptQueueFull | C::StuckSocket => StepSubject::Queues,
        C::AnswersDropped | C::AnswersLost | C::ClientsReset => StepSubject::Handshakes,
        _ => StepSubject::Delivery,
    })
}

/// A step: whether it is known to be in order, and what was found.
type Found = (bool, String);

fn address(case: &Case<'_>) -> Found {
    let seen = case.seen_all;
    let Some(asked) = case.asked else { return (true, "all addresses of this host".to_owned()) };
    let mut text =
        if seen.is_local { format!("{asked} is this host's") } else { format!("{asked} is not this host's") };
    if let Some(interface) = &seen.on_interface {
        let (up, watched) =
            (if interface.up { "up" } else { "down" }, if interface.watched { "" } else { ", not watched" });
        let _ = write!(text, ", on {} ({up}{watched})", interface.name);
    }
    (seen.is_local, text)
}

fn arrival(case: &Case<'_>) -> Found {
    let seen = case.seen_all;
    if case.syns == 0 {
        let watched: Vec<_> = seen.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        let unwatched: Vec<_> = seen.unwatched.iter().map(String::as_str).collect();
        let mut text = match watched.as_slice() {
            [] => "no interface is watched".to_owned(),
            names => format!("no SYN at {} in {}", names.join(", "), text::time(case)),
        };
        if case.diverted_here() > 0 {
            let _ = write!(text, ", and {} that were sent to another port", counted(case.diverted_here(), "SYN"));
        } else if !unwatched.is_empty() {
            let _ = write!(text, " (not watched: {})", unwatched.join(", "));
        }
        return (case.diverted_here() > 0, text);
    }
    let by: Vec<_> = case
        .arrived_by()
        .map(|interface| format!("{} at {}", counted(interface.asked[case.family], "SYN"), interface.name))
        .collect();
    (true, format!("{} in {}", by.join(", "), text::time(case)))
}

fn delivery(case: &Case<'_>) -> Found {
    let seen = case.seen_all;
    let mut parts = Vec::new();
    if let Some(delivered) = case.delivered() {
        parts.push(format!("{} reached TCP", grouped(delivered)));
    }
    parts.push(match (&seen.drops_unknown, case.dropped.as_slice()) {
        (Some(_), _) => "which are dropped is not known".to_owned(),
        (None, []) => "none dropped".to_owned(),
        (None, dropped) => format!("dropped: {}", reasons(dropped)),
    });
    if case.counts().resets > 0 {
        parts.push(format!("{} sent by the firewall", counted(case.counts().resets, "RST")));
    }
    let elsewhere: u64 = seen.elsewhere.iter().map(|elsewhere| elsewhere.count).sum();
    if elsewhere > 0 {
        parts.push(format!("{} sent here reached {}", counted(elsewhere, "SYN"), text::elsewhere(case)));
    }
    if let Some((count, max)) = seen.settings.conntrack.filter(|(count, max)| *count > 0 && *max > 0) {
        parts.push(format!("{} of {} tracked connections", grouped(count), grouped(max)));
    }
    let filter = case.arrived_by().filter_map(|interface| Some((interface, interface.rp_filter?)));
    if case.family == 0
        && let Some((interface, mode)) = filter.max_by_key(|(_, mode)| *mode)
    {
        parts.push(format!("rp_filter {mode} on {}", interface.name));
    }
    (case.syns > 0 && seen.drops_unknown.is_none(), parts.join("; "))
}

/// `NETFILTER_DROP 18, TCP_CSUM 2`
fn reasons(drops: &[DropCount]) -> String {
    drops.iter().map(|drop| format!("{} {}", drop.reason, grouped(drop.count))).collect::<Vec<_>>().join(", ")
}

fn listener(case: &Case<'_>) -> Found {
    let all: Vec<_> = case.listening().collect();
    if all.is_empty() {
        return (false, format!("nothing listens at port {}", case.port));
    }
    let taking = all.iter().any(|socket| case.takes(socket));
    let shown: Vec<_> = all.iter().take(4).map(|socket| described(case, socket)).collect();
    let more = if all.len() > 4 { format!(" and {} more", all.len() - 4) } else { String::new() };
    (taking, shown.join(", ") + &more)
}

/// `0.0.0.0:80 of nginx (pid 815), bound to eth1`
fn described(case: &Case<'_>, socket: &SocketObservation) -> String {
    let mut text = socket.local().to_string();
    if let Some(who) = processes(std::iter::once(socket)) {
        let _ = write!(text, " of {who}");
    }
    if socket.device != 0 {
        let _ = write!(text, ", bound to {}", case.seen_all.device(socket.device));
    }
    if socket.ipv6 && socket.ipv6_only && socket.address.is_unspecified() {
        text += ", IPv6 alone";
    }
    if !case.takes(socket) {
        text += " (does not take these SYNs)";
    }
    text
}

fn queues(case: &Case<'_>) -> Found {
    let queues: Vec<_> = case.taking().filter_map(|socket| socket.queues).collect();
    let Some(worst) = queues.iter().max_by_key(|queues| (queues.is_full(), queues.accept_queue)) else {
        return (false, "not known".to_owned());
    };
    let of = if queues.len() > 1 { format!(" (the fullest of {} sockets)", queues.len()) } else { String::new() };
    let mut text = format!(
        "accept queue {} of {}{of}, SYN queue {}",
        grouped(worst.accept_queue.into()),
        grouped(worst.accept_queue_max.into()),
        grouped(queues.iter().map(|queues| u64::from(queues.syn_queue)).sum())
    );
    let limit: u64 = case.listeners().filter_map(|(_, now)| now.queues).map(|of| u64::from(of.syn_queue_max)).sum();
    if limit > 0 {
        let _ = write!(text, " of {}", grouped(limit));
    }
    let cookies = match case.seen_all.settings.syncookies {
        Some(0) => "SYN cookies off",
        Some(2) => "SYN cookies always",
        _ => "SYN cookies when it is full",
    };
    let _ = write!(text, ", {cookies}");
    if let Some(dropped) = case.requests_dropped() {
        let _ = write!(text, "; {} dropped", counted(dropped, "request"));
    }
    (true, text)
}

fn handshakes(case: &Case<'_>) -> Found {
    let done = case.handshakes();
    let mut text = format!("{} completed", counted(done, "handshake"));
    if case.handshakes_unwatched() > 0 {
        let _ = write!(text, ", {} of them by interfaces that are not watched", grouped(case.handshakes_unwatched()));
    }
    if case.waiting_for_data() > 0 {
        let _ = write!(text, "; {} wait for the first data", counted(case.waiting_for_data(), "request"));
    }
    let (half_open, old) = case.half_open();
    if half_open > 0 {
        let _ = write!(text, "; {} half-open, {} of them answered more than once", grouped(half_open), grouped(old));
    }
    if !case.counts().answers_dropped.is_empty() {
        let _ = write!(text, "; SYN-ACKs dropped: {}", reasons(&case.counts().answers_dropped));
    }
    let [sent, received] = [case.grown(|of| of.syncookies_sent), case.grown(|of| of.syncookies_received)];
    if sent + received > 0 {
        let _ = write!(text, "; SYN cookies: {} sent, {} came back", grouped(sent), grouped(received));
    }
    (done > 0, text)
}
