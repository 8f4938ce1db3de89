//! The one cause. Each rule looks at one place of the way of a SYN; the first that finds something has it.

use tracker_model::{
    explain::{ListenCause, SocketObservation},
    listener::Listener,
};

use super::case::Case;

/// The rules, in the order in which they are asked.
const RULES: [fn(&Case<'_>) -> Option<ListenCause>; 11] = [
    address,
    dropped,
    taken_before_tcp,
    no_listener,
    accept_queue,
    syn_queue,
    answers_dropped,
    flood,
    unanswered,
    served,
    nothing_came,
];

/// Share of the SYNs from which on a drop matters beside handshakes that succeed.
const SOME: f64 = 0.05;

/// What keeps connections from being made.
pub(super) fn cause(case: &Case<'_>) -> ListenCause {
    RULES.iter().find_map(|rule| rule(case)).unwrap_or(ListenCause::NotKnown)
}

/// Whether `part` is at least this share of `whole`.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn is_share(part: u64, whole: u64, share: f64) -> bool {
    part > 0 && part as f64 >= whole as f64 * share
}

fn address(case: &Case<'_>) -> Option<ListenCause> {
    let seen = case.seen_all;
    match &seen.on_interface {
        Some(interface) if !interface.up => Some(ListenCause::InterfaceDown),
        _ => (!seen.is_local).then_some(ListenCause::AddressNotLocal),
    }
}

/// The kernel drops SYNs before TCP looks for a socket. What is dropped because there is none is left to the rule about
/// listeners.
fn dropped(case: &Case<'_>) -> Option<ListenCause> {
    let lost = case.lost_before_tcp();
    let main = case.dropped.iter().find(|drop| drop.reason != "NO_SOCKET")?;
    let passed = case.handshakes().max(case.delivered().unwrap_or(0).saturating_sub(case.lost_by("NO_SOCKET")));
    let share = if passed > 0 { SOME } else { 0.5 };
    if !is_share(lost, case.seen, share) {
        return None;
    }
    Some(match main.reason.as_str() {
        "NETFILTER_DROP" => firewall(case, passed, main.count),
        "IP_RPFILTER" => ListenCause::ReversePath,
        "TCP_CSUM" | "IP_CSUM" => ListenCause::BadChecksum,
        _ => ListenCause::Dropped,
    })
}

fn firewall(case: &Case<'_>, passed: u64, dropped: u64) -> ListenCause {
    let settings = &case.seen_all.settings;
    let is_full = settings.conntrack.is_some_and(|(count, max)| max > 0 && is_share(count, max, 0.98));
    if settings.conntrack_drops > 0 && (is_full || settings.conntrack_drops >= dropped) {
        ListenCause::ConntrackFull
    } else if is_share(case.counts().resets, dropped, 0.5) || is_share(case.counts().unreachables, dropped, 0.5) {
        ListenCause::Rejected
    } else if passed > 0 {
        ListenCause::FirewallPartly
    } else {
        ListenCause::Firewall
    }
}

/// SYNs arrive, none is dropped, and TCP does not see them at this port.
fn taken_before_tcp(case: &Case<'_>) -> Option<ListenCause> {
    let left = case.syns.saturating_sub(case.lost());
    if case.handshakes() > 0 || !is_share(left, case.syns, 0.5) {
        return None;
    }
    let is_diverted = is_share(case.diverted(), left, 0.5);
    if !is_diverted && (case.delivered().is_some_and(|delivered| delivered > 0) || has_trace(case)) {
        return None;
    }
    let listens = case.taking().next().is_some();
    if !listens && case.foreign_connections() > 0 {
        return Some(ListenCause::TransparentProxy);
    }
    if is_diverted || elsewhere(case, left) {
        return Some(ListenCause::Redirected);
    }
    if is_share(case.counts().forwarded, left, 0.8) {
        return Some(ListenCause::Forwarded);
    }
    // Where nothing listens TCP would have dropped them.
    let is_taken = case.delivered().is_some() || (!listens && case.seen_all.drops_unknown.is_none());
    is_taken.then_some(ListenCause::TakenBeforeTcp)
}

/// Whether another port got about as many SYNs as are missing here.
fn elsewhere(case: &Case<'_>, left: u64) -> bool {
    is_share(case.seen_all.elsewhere.iter().map(|elsewhere| elsewhere.count).sum(), left, 0.5)
}

/// Whether TCP has seen SYNs at the listeners of the port.
fn has_trace(case: &Case<'_>) -> bool {
    case.half_open().0 > 0
        || case.requests_dropped().is_some_and(|drops| drops > 0)
        || case.grown(|of| of.syncookies_sent) > 0
}

fn no_listener(case: &Case<'_>) -> Option<ListenCause> {
    let by_address: Vec<_> = case.listening().filter(|socket| case.takes_address(socket)).collect();
    let is_loopback = |socket: &SocketObservation| socket.address.is_loopback();
    if by_address.is_empty() {
        return Some(elsewhere_listening(case));
    }
    if case.taking().next().is_none() {
        return Some(ListenCause::OtherDevice);
    }
    // All addresses are asked about, and what came went to others than those that are listened on.
    let refused = is_share(case.lost_by("NO_SOCKET"), case.seen, 0.5);
    if case.asked.is_none() && by_address.iter().all(|socket| is_loopback(socket)) && (refused || case.seen == 0) {
        return Some(ListenCause::LoopbackOnly);
    }
    let has_wildcard = by_address.iter().any(|socket| socket.address.is_unspecified() && socket.device == 0);
    (refused && !has_wildcard && case.asked.is_none()).then_some(ListenCause::OtherAddress)
}

/// No listening socket has the address: where do they listen?
fn elsewhere_listening(case: &Case<'_>) -> ListenCause {
    let is_asked_loopback = case.asked.is_some_and(|asked| asked.is_loopback());
    let mut listening = case.listening().peekable();
    if listening.peek().is_none() {
        ListenCause::NothingListens
    } else if case.family == 0
        && case.listening().any(|socket| socket.address.is_ipv6() && socket.address.is_unspecified())
    {
        ListenCause::Ipv6Only
    } else if !is_asked_loopback && case.listening().all(|socket| socket.address.is_loopback()) {
        ListenCause::LoopbackOnly
    } else if case.family == 1
        && case.listening().any(|socket| socket.address.is_ipv4() && socket.address.is_unspecified())
    {
        ListenCause::Ipv4Only
    } else {
        ListenCause::OtherAddress
    }
}

fn accept_queue(case: &Case<'_>) -> Option<ListenCause> {
    let queues: Vec<_> = case.taking().filter_map(|socket| socket.queues).collect();
    let full = queues.iter().filter(|queues| queues.is_full()).count();
    match full {
        0 => None,
        full if full < queues.len() => Some(ListenCause::StuckSocket),
        _ => Some(ListenCause::AcceptQueueFull),
    }
}

fn syn_queue(case: &Case<'_>) -> Option<ListenCause> {
    if case.seen_all.settings.syncookies != Some(0) {
        return None;
    }
    let is_full = |listener: &Listener| {
        listener.queues.is_some_and(|queues| queues.syn_queue_max > 0 && queues.syn_queue >= queues.syn_queue_max)
    };
    let dropped = case.requests_dropped().is_none_or(|drops| drops > 0);
    (dropped && case.listeners().any(|(_, now)| is_full(now))).then_some(ListenCause::SynQueueFull)
}

fn answers_dropped(case: &Case<'_>) -> Option<ListenCause> {
    let dropped = case.counts().answers_dropped.iter().map(|drop| drop.count).sum();
    is_share(dropped, case.seen, if case.handshakes() > 0 { 0.5 } else { SOME }).then_some(ListenCause::AnswersDropped)
}

/// Beside handshakes most SYNs belong to a flood, as the flood detector has it.
fn flood(case: &Case<'_>) -> Option<ListenCause> {
    let is_flooded = |now: &Listener| now.verdict.is_some_and(|verdict| verdict.class.is_flood());
    (case.handshakes() > 0 && case.listeners().any(|(_, now)| is_flooded(now))).then_some(ListenCause::Flood)
}

/// Answers are sent, and few or none is acknowledged.
fn unanswered(case: &Case<'_>) -> Option<ListenCause> {
    if case.seen == 0 || case.handshakes() > case.seen / 4 {
        return None;
    }
    if is_share(case.aborted().max(case.grown(|of| of.embryonic_resets)), case.seen, 0.5) {
        return Some(ListenCause::ClientsReset);
    }
    let cookies = case.grown(|of| of.syncookies_sent).saturating_sub(case.grown(|of| of.syncookies_received));
    let (half_open, old) = case.half_open();
    let is_lost = old > 0 || is_share(half_open, case.seen, 0.25) || is_share(cookies, case.seen, 0.5);
    is_lost.then_some(ListenCause::AnswersLost)
}

fn served(case: &Case<'_>) -> Option<ListenCause> {
    (case.handshakes() + case.waiting_for_data() > 0).then_some(ListenCause::Fine)
}

fn nothing_came(case: &Case<'_>) -> Option<ListenCause> {
    let is_unwatched = case.seen_all.on_interface.as_ref().is_some_and(|interface| !interface.watched);
    match (case.seen, is_unwatched) {
        (0, true) => Some(ListenCause::InterfaceNotWatched),
        (0, false) => Some(ListenCause::NoSyns),
        _ => None,
    }
}
