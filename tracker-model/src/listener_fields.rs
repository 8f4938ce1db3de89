//! The figures of a listener: what metrics, tables and docs show of it.

use tracker_common::histogram::HANDSHAKE_SHIFT;

use crate::{
    counters::ListenerQueues,
    field::{
        Field,
        Read::{self, Count, Each, Number},
        fields,
    },
    listener::Listener,
    text::{UNKNOWN, grouped, or_unknown, rate, whole},
    worst_socket::WorstSocket,
};

const LABELS: &[&str] = &["address", "port"];
const BY_FAMILY: &[&str] = &["address", "port", "family"];
const BY_INTERFACE: &[&str] = &["address", "port", "family", "interface"];

/// A queue and its limit.
fn against(queues: Option<ListenerQueues>, read: fn(ListenerQueues) -> (u32, u32)) -> String {
    or_unknown(queues.map(read), |(length, limit)| format!("{}/{}", grouped(length.into()), grouped(limit.into())))
}

/// A figure of SYNs, where those are seen.
fn seen(listener: &Listener, figure: String) -> String {
    if listener.syns_unseen { UNKNOWN.to_owned() } else { figure }
}

/// The figures of a listener, a row each. Where `other` listeners have no series of their own, theirs are added up.
pub static FIELDS: &[Field<Listener>] = fields! { Listener;
    counter BY_FAMILY "tracker_listener_syns_total"
        "SYNs to this listener received by watched interfaces, repeats included."
        => Each(&[&["ipv4"], &["ipv6"]], |l| l.syns_by_family.to_array().to_vec()), column "SYNS",
        cell |l| seen(l, grouped(l.syns_received));
    counter LABELS "tracker_listener_delivered_syns_total"
        "SYNs sent to this listener that reached TCP here."
        => Count(|l| Some(l.delivery?.delivered)), wide "DELIVERED";
    counter LABELS "tracker_listener_diverted_syns_total"
        "SYNs sent to this listener that TCP looked up at another address or port: translated, or taken by a \
         transparent proxy."
        => Count(|l| Some(l.delivery?.diverted)), wide "DIVERTED";
    counter LABELS "tracker_listener_diverted_here_syns_total"
        "SYNs sent to another address or port that reached this listener."
        => Count(|l| Some(l.delivery?.diverted_here)), wide "DIVERTED-HERE",
        cell |l| match (l.delivery, l.diverted_from) {
            (Some(delivery), Some(port)) => format!("{} (:{port})", grouped(delivery.diverted_here)),
            (delivery, _) => or_unknown(delivery, |delivery| grouped(delivery.diverted_here)),
        },
        about "SYNs sent to another address or port that reached this listener, and the port of the last one.";
    counter LABELS "tracker_listener_filtered_syns_total"
        "SYNs sent to this listener that the kernel dropped before TCP, by what it drops when it is asked, two seconds \
         a minute."
        => Count(|l| Some(l.delivery?.filtered)), wide "FILTERED", cell |l| match (l.delivery, l.drop_reasons.first()) {
            (Some(delivery), Some(reason)) => format!("{} ({reason})", grouped(delivery.filtered)),
            (delivery, _) => or_unknown(delivery, |delivery| grouped(delivery.filtered)),
        }, about "SYNs sent to this listener that the kernel dropped before TCP, and its reason.";
    counter LABELS "tracker_listener_undelivered_syns_total"
        "SYNs sent to this listener that TCP has not looked up, of which it is not known what became: dropped before \
         TCP, sent on to another network namespace, or repeats of one whose request waits for its answer."
        => Count(|l| Some(l.delivery?.undelivered)), wide "UNDELIVERED";
    "SYNs per second, over the last second or more." => Number(|l| Some(l.syn_rate)), column "SYN/S",
        cell |l| seen(l, rate(l.syn_rate));
    counter BY_INTERFACE "tracker_listener_handshakes_total"
        "Handshakes completed, by whether the last packet came by a watched interface or by another such as loopback."
        => Each(
            &[&["ipv4", "watched"], &["ipv6", "watched"], &["ipv4", "unwatched"], &["ipv6", "unwatched"]],
            |l| [l.completed.to_array(), l.completed_unwatched.to_array()].concat(),
        ), column "COMPLETED", cell |l| grouped(l.handshakes_completed),
        about "Handshakes completed, by all interfaces.";
    "SYNs that reached this listener and neither completed a handshake nor are half-open now nor were reset by their \
     client; an upper bound, for a repeated SYN counts again."
        => Count(|l| Some(l.handshakes_unanswered)), column "UNANSWERED",
        cell |l| seen(l, grouped(l.handshakes_unanswered));
    histogram LABELS "tracker_listener_handshake_seconds"
        "Time from the first SYN-ACK to the ACK that completes the handshake, repeats included."
        => Read::Histogram(HANDSHAKE_SHIFT, |l| &l.handshake_time);
    gauge LABELS "tracker_listener_half_open" "Half-open request sockets at the last census."
        => Count(|l| Some(l.queues?.half_open.into())), column "HALF-OPEN";
    gauge LABELS "tracker_listener_accept_queue" "Connections that wait for accept()."
        => Count(|l| Some(l.queues?.accept_queue.into())), column "ACCEPT-Q",
        cell |l| against(l.queues, |queues| (queues.accept_queue, queues.accept_queue_max)),
        about "Connections that wait for accept(), and their limit.";
    gauge LABELS "tracker_listener_accept_queue_limit" "Limit of the accept queue."
        => Count(|l| Some(l.queues?.accept_queue_max.into())), summed false;
    gauge LABELS "tracker_listener_full_sockets"
        "Sockets of an SO_REUSEPORT group whose own accept queue is full, which the sum over the group hides; only of \
         groups."
        => Count(|l| l.worst_socket.as_ref().map(|worst| worst.full.into())), wide "WORST",
        cell |l| or_unknown(l.worst_socket.as_ref(), WorstSocket::to_string),
        about "The socket of an SO_REUSEPORT group whose accept queue is fullest: its queue against the limit, and how \
               many sockets of the group are full.";
    counter LABELS "tracker_listener_dropped_requests_total"
        "Requests that the listening sockets turned away; not those of other listeners. SYNs, and \
         while the accept queue is full also ACKs that would have completed a handshake."
        => Count(|l| Some(l.queues?.drops)), column "DROPPED";
    gauge LABELS "tracker_listener_connected" "Established sockets of this listener at the last census."
        => Count(|l| Some(l.queues?.connected.into())), column "CONNECTED";
    gauge LABELS "tracker_listener_syn_queue" "Requests in the SYN queue."
        => Count(|l| Some(l.queues?.syn_queue.into())), wide "SYN-Q",
        cell |l| against(l.queues, |queues| (queues.syn_queue, queues.syn_queue_max)),
        about "Requests in the SYN queue, and their limit.";
    gauge LABELS "tracker_listener_syn_queue_young"
        "Requests in the SYN queue whose SYN-ACK was not yet repeated."
        => Count(|l| Some(l.queues?.syn_queue_young.into())), wide "YOUNG";
    gauge LABELS "tracker_listener_syn_queue_limit"
        "Limit of the SYN queue, beyond which the kernel answers with cookies or drops."
        => Count(|l| Some(l.queues?.syn_queue_max.into())), summed false;
    counter LABELS "tracker_listener_repeated_syns_total"
        "SYNs to this listener that repeat an earlier one, an estimate from a sample, and rather too low: a few of a \
         hundred are missed."
        => Count(|l| Some(l.syns_repeated)), wide "REPEATED", cell |l| match l.syns_repeated_error {
            0 => grouped(l.syns_repeated),
            error => format!("{}±{}", grouped(l.syns_repeated), grouped(error)),
        };
    counter LABELS "tracker_listener_aborted_requests_total"
        "Requests that their client reset before the handshake was completed, an estimate from a sample."
        => Count(|l| Some(l.syns_aborted)), wide "ABORTED", cell |l| match l.syns_aborted_error {
            0 => grouped(l.syns_aborted),
            error => format!("{}±{}", grouped(l.syns_aborted), grouped(error)),
        };
    gauge LABELS "tracker_listener_waiting_for_data"
        "Half-open requests whose handshake is complete and which wait for the first data (TCP_DEFER_ACCEPT), at the \
         last census."
        => Count(|l| Some(l.queues?.waiting_for_data.into())), wide "WAIT-DATA";
    "Requests that ended without a connection; an upper bound." => Count(|l| l.handshakes_expired), wide "EXPIRED",
        cell |l| or_unknown(l.handshakes_expired, |most| format!("<={}", grouped(most)));
    "Distinct sources of SYNs in the last second or so in which there were any, an estimate."
        => Number(|l| l.distinct_sources), wide "SOURCES",
        cell |l| or_unknown(l.distinct_sources, |about| format!("~{}", whole(about)));
    "SYNS by IPv4." => Count(|l| Some(l.syns_by_family.ipv4)), wide "SYNS-V4";
    "SYNS by IPv6." => Count(|l| Some(l.syns_by_family.ipv6)), wide "SYNS-V6";
    "COMPLETED by IPv4." => Count(|l| Some(l.handshakes_by_family.ipv4)), wide "DONE-V4";
    "COMPLETED by IPv6." => Count(|l| Some(l.handshakes_by_family.ipv6)), wide "DONE-V6";
    gauge LABELS "tracker_listener_sockets"
        "Listening sockets at this address and port; more than one is an SO_REUSEPORT group."
        => Count(|l| Some(l.sockets.into())), wide "SOCKETS";
    gauge LABELS "tracker_listener_defer_accept"
        "Listening sockets that wait for the first data before they hand over a connection (TCP_DEFER_ACCEPT), at the \
         last census; 0 when none does."
        => Count(|l| Some(l.queues?.defer_accept)), wide "DEFER";
};
