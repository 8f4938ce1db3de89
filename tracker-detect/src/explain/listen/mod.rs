//! Why nobody can connect to a listening address: `observation` is what was seen while the port was watched, `case`
//! what follows from it for one family, `rules` finds the cause, `text` and `advice` put it into words, `steps` has the
//! figures on the way of a SYN.

#![expect(clippy::similar_names, reason = "a case has a cause")]

mod advice;
mod case;
mod observation;
mod rules;
mod steps;
#[cfg(test)]
mod tests;
mod text;

use std::net::IpAddr;

use tracker_model::{
    explain::{InterfaceSyns, ListenAnswer, ListenCause, ListenFigures, ListeningSocket},
    text::counted,
};

pub use observation::{
    AddressInterface, Elsewhere, FamilyObservation, InterfaceObservation, ListenObservation, ListenSettings,
    WithoutListener, went_elsewhere,
};

use self::case::Case;
use super::processes;

/// Listening sockets that are shown.
const SOCKETS: usize = 32;

/// Why nobody can connect to a port of this address, or of any if it is the wildcard. Mapped addresses are those of
/// IPv4.
#[must_use]
pub fn explain_listen(address: IpAddr, port: u16, seen: &ListenObservation) -> ListenAnswer {
    let address = address.to_canonical();
    let cases = cases(address, port, seen);
    // What is in the way of one family is not hidden by the other, for which nothing is.
    let judged: Vec<(ListenCause, &Case<'_>)> = cases.iter().map(|case| (rules::cause(case), case)).collect();
    let (cause, case) = judged.iter().max_by_key(|(cause, case)| weight(*cause, case)).expect("one family or two");
    let other = judged.iter().find(|(other, of)| other != cause && of.seen > 0);
    let blocked = cause.is_blocking() && !(*cause == ListenCause::Redirected && case.is_served_elsewhere());
    ListenAnswer {
        address,
        port,
        watched_seconds: seen.watched.as_secs_f64(),
        cause: *cause,
        blocked,
        summary: text::summary(*cause, case, other.is_some()),
        advice: advice::lines(*cause, case),
        steps: steps::steps(*cause, blocked, case),
        figures: figures(&cases),
        notes: notes(*cause, case, other.map(|(cause, case)| (*cause, *case))),
    }
}

/// The families that are asked about: both for the IPv6 wildcard, which takes IPv4 too.
fn cases(address: IpAddr, port: u16, seen: &ListenObservation) -> Vec<Case<'_>> {
    let asked = (!address.is_unspecified()).then_some(address);
    let families: &[usize] = match address {
        IpAddr::V4(_) => &[0],
        IpAddr::V6(_) if asked.is_none() => &[0, 1],
        IpAddr::V6(_) => &[1],
    };
    families.iter().map(|family| Case::new(*family, asked, port, seen)).collect()
}

/// Which of two causes is shown: one that blocks before one that does not, then the one with more SYNs. That
/// nothing listens of a family by which nobody comes is no news where the other is served.
fn weight(cause: ListenCause, case: &Case<'_>) -> (bool, bool, bool, u64) {
    let is_certain = cause.is_blocking() && (case.seen > 0 || !case.has_listener_of_other_family());
    (is_certain, case.seen > 0, !cause.is_blocking(), case.seen)
}

fn figures(cases: &[Case<'_>]) -> ListenFigures {
    let seen = cases[0].seen_all;
    let has = |family: usize| cases.iter().any(|case| case.family == family);
    let of = |counts: [u64; 2]| {
        counts.iter().enumerate().filter(|(family, _)| has(*family)).map(|(_, count)| *count).sum::<u64>()
    };
    let interface = |interface: &InterfaceObservation| InterfaceSyns {
        interface: interface.name.clone(),
        ipv4: if has(0) { interface.asked[0] } else { 0 },
        ipv6: if has(1) { interface.asked[1] } else { 0 },
    };
    let interfaces = seen.interfaces.iter().map(interface).filter(|syns| syns.ipv4 + syns.ipv6 > 0).collect();
    let families = || seen.families.iter().enumerate().filter(|(family, _)| has(*family)).map(|(_, counts)| counts);
    let known = seen.drops_unknown.is_none();
    let cookies = seen.counters.map(|[before, after]| {
        let of = |before: u64, after: u64| after.saturating_sub(before);
        (of(before.syncookies_sent, after.syncookies_sent), of(before.syncookies_received, after.syncookies_received))
    });
    ListenFigures {
        interfaces,
        syns: seen.interfaces.iter().map(|interface| of(interface.asked)).sum(),
        syns_other_address: seen.interfaces.iter().map(|interface| of(interface.other)).sum(),
        syns_not_local: seen.interfaces.iter().map(|interface| of(interface.not_local)).sum(),
        delivered: cases.iter().map(Case::delivered).sum(),
        dropped: known.then(|| case::merged(families().map(|counts| &counts.dropped))),
        answers_dropped: known.then(|| case::merged(families().map(|counts| &counts.answers_dropped))),
        resets_sent: families().map(|counts| counts.resets).sum(),
        handshakes: cases.iter().map(Case::handshakes).sum(),
        sockets: sockets(cases),
        cookies_sent: cookies.map(|(sent, _)| sent),
        cookies_received: cookies.map(|(_, received)| received),
        requests_dropped: cases[0].requests_dropped(),
    }
}

fn sockets(cases: &[Case<'_>]) -> Vec<ListeningSocket> {
    let seen = cases[0].seen_all;
    let listening = cases[0].listening().take(SOCKETS);
    listening
        .map(|socket| ListeningSocket {
            address: socket.address,
            ipv6_only: socket.ipv6 && socket.ipv6_only,
            device: (socket.device != 0).then(|| seen.device(socket.device)),
            takes: cases.iter().any(|case| case.takes(socket)),
            queues: socket.queues,
            processes: socket.processes.clone(),
        })
        .collect()
}

fn notes(cause: ListenCause, case: &Case<'_>, other: Option<(ListenCause, &Case<'_>)>) -> Vec<String> {
    let seen = case.seen_all;
    let mut notes = Vec::new();
    if let Some((other, of)) = other {
        notes.push(format!("Of {} it is otherwise: {}.", of.family_name(), text::summary(other, of, true)));
    }
    if let Some(why) = &seen.drops_unknown {
        notes.push(format!("Which packets the kernel drops, and why, is not known: {why}."));
    }
    if seen.truncated {
        notes.push("There are more sockets on this port than are looked at.".to_owned());
    }
    let others: u64 = seen.interfaces.iter().map(|interface| interface.other[case.family]).sum();
    if others > 0 {
        notes.push(format!("{} came to this port at other addresses of this host.", counted(others, "SYN")));
    }
    let not_local: u64 = seen.interfaces.iter().map(|interface| interface.not_local[case.family]).sum();
    if not_local > 0 {
        notes.push(format!(
            "{} came to this port at addresses that this host does not have.",
            counted(not_local, "SYN")
        ));
    }
    if case.seen > 0 && is_before_tcp(cause) && case.taking().next().is_none() {
        notes.push("Nothing listens there either, as far as this host's sockets show.".to_owned());
    }
    if seen.settings.abort_on_overflow && matches!(cause, ListenCause::AcceptQueueFull | ListenCause::StuckSocket) {
        notes.push("net.ipv4.tcp_abort_on_overflow=1: clients are reset instead of kept waiting.".to_owned());
    }
    notes
}

/// Whether a cause lies before TCP.
const fn is_before_tcp(cause: ListenCause) -> bool {
    use ListenCause as C;
    matches!(
        cause,
        C::Firewall | C::FirewallPartly | C::Rejected | C::ConntrackFull | C::ReversePath | C::BadChecksum | C::Dropped
    )
}
