//! The cause in one line.

use tracker_model::{
    explain::{ListenCause, SocketObservation, SocketQueues},
    process::Process,
    text::{counted, grouped, number},
};

use super::{case::Case, processes};

/// One line; with the family where that matters.
pub(super) fn summary(cause: ListenCause, case: &Case<'_>, names_family: bool) -> String {
    let family =
        if names_family && case.asked.is_none() { format!(" by {}", case.family_name()) } else { String::new() };
    let target = format!("{}{family}", case.target());
    match cause {
        ListenCause::Fine | ListenCause::Flood | ListenCause::NoSyns | ListenCause::InterfaceNotWatched => {
            open(cause, case, &target)
        }
        ListenCause::NotKnown => format!(
            "SYNs reach {target} and none of {} has become a connection within {}; nothing that stands in the way is \
             seen",
            grouped(case.seen),
            time(case)
        ),
        ListenCause::Redirected if case.is_served_elsewhere() => {
            format!(
                "Clients of {target} are served at {}, where a rule sends them: {}",
                elsewhere(case),
                taken_count(case)
            )
        }
        ListenCause::TransparentProxy => {
            let at = case.elsewhere().map_or_else(String::new, |_| format!(" at {}", elsewhere(case)));
            format!("Clients of {target} are served by a transparent proxy{at}: {}", taken_count(case))
        }
        ListenCause::Forwarded => {
            let back = if case.is_forwarded_both_ways() { "packets come back too" } else { "nothing comes back" };
            format!(
                "{target} is served elsewhere, or nowhere: {} were forwarded to another namespace or host, and {back}",
                taken_count(case)
            )
        }
        ListenCause::FirewallPartly | ListenCause::StuckSocket => {
            format!("Not everybody can connect to {target}: {}", why(cause, case))
        }
        _ => format!("Nobody can connect to {target}: {}", why(cause, case)),
    }
}

/// Where nothing is in the way.
fn open(cause: ListenCause, case: &Case<'_>, target: &str) -> String {
    let handshakes = counted(case.handshakes(), "handshake");
    match cause {
        ListenCause::Fine if case.handshakes() == 0 => format!(
            "Clients connect to {target} and have yet to send the first data, without which they are not accepted \
             (TCP_DEFER_ACCEPT)"
        ),
        ListenCause::Fine => format!("Clients connect to {target}: {handshakes} in {}", time(case)),
        ListenCause::Flood => format!(
            "Clients connect to {target} ({handshakes} in {}) beside a SYN flood of {}",
            time(case),
            counted(case.seen, "SYN")
        ),
        ListenCause::InterfaceNotWatched => {
            let on = case.seen_all.on_interface.as_ref().map_or("it", |interface| &interface.name);
            format!("Whether SYNs to {target} arrive is not known: {on}, which has the address, is not watched")
        }
        _ => format!("No SYN to {target} arrived in {}, though something listens there", time(case)),
    }
}

fn why(cause: ListenCause, case: &Case<'_>) -> String {
    use ListenCause as C;
    match cause {
        C::InterfaceDown
        | C::AddressNotLocal
        | C::NothingListens
        | C::OtherAddress
        | C::LoopbackOnly
        | C::Ipv6Only
        | C::Ipv4Only
        | C::OtherDevice => nowhere(cause, case),
        C::Firewall
        | C::FirewallPartly
        | C::Rejected
        | C::ConntrackFull
        | C::ReversePath
        | C::BadChecksum
        | C::Dropped => {
            format!("{} ({})", lost(cause, case), share(case))
        }
        C::Redirected => {
            format!("a rule sends them to {}, which completes no handshake ({})", elsewhere(case), taken_count(case))
        }
        C::TakenBeforeTcp => {
            format!("something takes the SYNs before TCP sees them, and drops none ({})", taken_count(case))
        }
        C::SynQueueFull => {
            format!("the SYN queue of {} is full, and SYN cookies are off", listener(case))
        }
        C::AcceptQueueFull => {
            format!("the accept queue of {} is full ({}): it does not accept", listener(case), full(case))
        }
        C::StuckSocket => stuck(case),
        C::AnswersDropped => {
            let dropped = case.counts().answers_dropped.iter().map(|drop| drop.count).sum();
            format!("a rule of this host drops its answers ({} dropped on the way out)", counted(dropped, "SYN-ACK"))
        }
        C::ClientsReset => "the clients reset each answer".to_owned(),
        _ => unanswered(case),
    }
}

/// Nothing listens where the SYNs go.
fn nowhere(cause: ListenCause, case: &Case<'_>) -> String {
    match cause {
        ListenCause::InterfaceDown => {
            let name = case.seen_all.on_interface.as_ref().map_or("", |interface| &interface.name);
            format!("the interface with the address, {name}, is down")
        }
        ListenCause::AddressNotLocal => "this host does not have the address".to_owned(),
        ListenCause::NothingListens => match holder(case) {
            Some(holder) => format!("nothing listens; {holder}"),
            None => "nothing listens at that port".to_owned(),
        },
        ListenCause::LoopbackOnly => {
            format!("{} on loopback alone, which other hosts cannot reach", listening(case))
        }
        ListenCause::Ipv6Only => format!("{} for IPv6 alone (IPV6_V6ONLY)", listening(case)),
        ListenCause::Ipv4Only => format!("{} for IPv4 alone", listening(case)),
        ListenCause::OtherDevice => {
            let socket = case.listening().find(|socket| case.takes_address(socket));
            let bound = socket.map_or_else(String::new, |socket| case.seen_all.device(socket.device));
            let by: Vec<_> = case.arrived_by().map(|interface| interface.name.as_str()).collect();
            format!("{} bound to {bound}, and SYNs come by {}", listening(case), by.join(", "))
        }
        _ => format!("{}, and not there", listening(case)),
    }
}

/// Who has the port without listening.
fn holder(case: &Case<'_>) -> Option<String> {
    use tracker_model::explain::{Protocol, TcpState};
    let named = |socket: &SocketObservation| {
        processes(std::iter::once(socket)).unwrap_or_else(|| "a socket without a process".to_owned())
    };
    let sockets = &case.seen_all.sockets;
    let bound = sockets.iter().find(|socket| socket.protocol == Protocol::Tcp && socket.state == TcpState::Bound);
    let udp = sockets.iter().find(|socket| socket.protocol == Protocol::Udp);
    bound
        .map(|socket| format!("{} has bound the port and not called listen()", named(socket)))
        .or_else(|| udp.map(|socket| format!("{} has the port for UDP", named(socket))))
}

/// `nginx (pid 815) listens at 127.0.0.1:80`
fn listening(case: &Case<'_>) -> String {
    let all: Vec<_> = case.listening().collect();
    let who = processes(all.iter().copied()).unwrap_or_else(|| "a socket".to_owned());
    let mut addresses: Vec<_> = all.iter().map(|socket| socket.local().to_string()).collect();
    addresses.dedup();
    addresses.truncate(3);
    format!("{who} listens at {}", addresses.join(", "))
}

/// `nginx (pid 815)`, or the addresses of the listening sockets.
pub(super) fn listener(case: &Case<'_>) -> String {
    processes(case.taking()).unwrap_or_else(|| case.target())
}

/// What drops SYNs.
fn lost(cause: ListenCause, case: &Case<'_>) -> String {
    let main = case.dropped.iter().find(|drop| drop.reason != "NO_SOCKET").map_or("", |drop| &drop.reason);
    match cause {
        ListenCause::Firewall => "a firewall rule of this host drops the SYNs".to_owned(),
        ListenCause::FirewallPartly => {
            "a firewall rule of this host drops some of the SYNs, and lets others pass".to_owned()
        }
        ListenCause::Rejected => "a firewall rule of this host rejects the SYNs".to_owned(),
        ListenCause::ConntrackFull => "the firewall's table of connections is full".to_owned(),
        ListenCause::ReversePath => {
            let by: Vec<_> = case.arrived_by().map(|interface| interface.name.as_str()).collect();
            format!("this host has no way back to the clients by {} (rp_filter)", by.join(", "))
        }
        ListenCause::BadChecksum => "the checksum of the SYNs is wrong".to_owned(),
        _ => format!("the kernel drops the SYNs for the reason {main}"),
    }
}

fn share(case: &Case<'_>) -> String {
    let lost = case.lost_before_tcp();
    format!("{} of {} in {}", grouped(lost), counted(case.seen.max(lost), "SYN"), time(case))
}

/// `18 SYNs in 3 s`: those that were not dropped.
fn taken_count(case: &Case<'_>) -> String {
    format!("{} in {}", counted(case.syns.saturating_sub(case.lost()), "SYN"), time(case))
}

/// `port 8080 of envoy (pid 7)`: where most of the SYNs went.
pub(super) fn elsewhere(case: &Case<'_>) -> String {
    let Some(most) = case.elsewhere() else { return "another port".to_owned() };
    let of = most.process.as_ref().map_or_else(String::new, |process: &Process| format!(" of {process}"));
    format!("port {}{of}", most.port)
}

/// `17 of 16`
fn full(case: &Case<'_>) -> String {
    let queues = case.taking().filter_map(|socket| socket.queues).find(|queues| queues.is_full());
    queues.map_or_else(String::new, |queues| format!("{} of {}", queues.accept_queue, queues.accept_queue_max))
}

fn stuck(case: &Case<'_>) -> String {
    let all = case.taking().count();
    let is_full = |socket: &&SocketObservation| socket.queues.is_some_and(SocketQueues::is_full);
    let stuck: Vec<_> = case.taking().filter(is_full).collect();
    let who = processes(stuck.iter().copied()).unwrap_or_else(|| "a process that is not known".to_owned());
    format!("{} of {all} sockets that share the port do not accept ({}), that of {who}", stuck.len(), full(case))
}

fn unanswered(case: &Case<'_>) -> String {
    let (half_open, old) = case.half_open();
    let waiting = if half_open > 0 {
        format!("{} are half-open, {} of them answered more than once", grouped(half_open), grouped(old))
    } else {
        format!("{} sent", counted(case.grown(|of| of.syncookies_sent), "SYN cookie"))
    };
    format!("answers are sent and nothing comes back ({} in {}; {waiting})", counted(case.seen, "SYN"), time(case))
}

/// How long was watched.
pub(super) fn time(case: &Case<'_>) -> String {
    format!("{} s", number(case.seen_all.watched.as_secs_f64()))
}
