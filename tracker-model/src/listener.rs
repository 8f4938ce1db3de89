//! A listening address, and the figures of it. The snapshot holds it, the API answers with it as it is, and
//! [`crate::listener_fields`] says what metrics, tables and docs show of it.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_common::histogram::Histogram;

use crate::{
    api::{NoListener, SourceCount, Verdict},
    counters::{ByFamily, HandshakeStats, ListenerQueues},
    delivery::Delivery,
    nullable::fields_or_nulls,
    process::Process,
    text::listener_place,
    worst_socket::WorstSocket,
};

/// Answer of `GET /v1/listeners`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listeners {
    /// When the counters were read.
    pub taken_at: Timestamp,
    /// When queues, `half_open` and `connected` were read; null before the first census.
    pub census_at: Option<Timestamp>,
    /// Listening addresses, by port and address; a `SO_REUSEPORT` group is one.
    pub listeners: Vec<Listener>,
    /// SYNs to local addresses at ports where nothing listens.
    pub no_listener: NoListener,
}

/// A listening address. The sockets of a `SO_REUSEPORT` group are one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Network namespace.
    pub netns: u32,
    /// Local address; `0.0.0.0` and `::` are the wildcards.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Device that its sockets are bound to (`SO_BINDTODEVICE`), as `%eth0` in other places; null for any.
    pub device: Option<String>,
    /// Index of that device; 0 for any.
    #[serde(skip)]
    pub device_index: u32,
    /// Whether an IPv6 listener takes IPv4 too.
    pub dual_stack: bool,
    /// The process that called `listen()`, or that holds a socket older than the daemon; null when it may not be read
    /// or is not known yet.
    pub process: Option<Process>,
    /// User that owns the socket; null when it is older than the daemon.
    pub uid: Option<u32>,
    /// Listening sockets at this address.
    pub sockets: u32,
    /// Whether it has no counters of its own, since there are more than 1,024 listeners: then its counts are 0. It gets
    /// some within a second of its first SYN, or of its first after others needed them more, and counts from there.
    pub shares_slot: bool,
    /// Whether it is reached by interfaces alone that are not watched, such as loopback, as far as is known:
    /// `syns_received` and `handshakes_unanswered` then say nothing.
    #[serde(default)]
    pub syns_unseen: bool,
    /// SYNs received by watched interfaces, repeats included.
    pub syns_received: u64,
    /// These SYNs by family.
    pub syns_by_family: ByFamily,
    /// Where these SYNs went; all null where the kernel does not show what reaches TCP.
    #[serde(flatten, serialize_with = "fields_or_nulls")]
    pub delivery: Option<Delivery>,
    /// Why the kernel drops the SYNs of `syns_filtered` (`enum skb_drop_reason`), the most frequent reason first, while
    /// it does.
    pub drop_reasons: Vec<String>,
    /// Port that the last of `syns_diverted_here` was sent to; null when there is none.
    pub diverted_from: Option<u16>,
    /// SYNs per second, over the last second or more.
    pub syn_rate: f64,
    /// Handshakes completed, by all interfaces.
    pub handshakes_completed: u64,
    /// These handshakes by family.
    pub handshakes_by_family: ByFamily,
    /// Handshakes completed by watched interfaces.
    #[serde(skip)]
    pub completed: ByFamily,
    /// Handshakes completed by other interfaces, such as loopback.
    #[serde(skip)]
    pub completed_unwatched: ByFamily,
    /// Time from the first SYN-ACK to ESTABLISHED.
    #[serde(skip)]
    pub handshake_time: Histogram,
    /// SYNs that reached this listener by watched interfaces and neither completed a handshake nor are half-open now
    /// nor were reset by their client. An upper bound: a repeated SYN counts again.
    pub handshakes_unanswered: u64,
    /// Requests that ended without a connection: they timed out, or their cookie was not returned.
    /// An upper bound: `handshakes_unanswered` less `overflows` or less the lower end of `syns_repeated`, whichever is
    /// more, since one SYN can be both. `overflows` is not subtracted for a listener that is older than the daemon
    /// (`uid` is null). It may be too low while the accept queue is full. Null, as are its queues, before the first
    /// census that saw this listener.
    pub handshakes_expired: Option<u64>,
    /// What the last census saw; none when the listener was opened after it.
    #[serde(flatten, serialize_with = "fields_or_nulls")]
    pub queues: Option<ListenerQueues>,
    /// The socket of a `SO_REUSEPORT` group whose accept queue is fullest, a moment ago; null when one socket alone
    /// listens, or the kernel does not show each by itself.
    pub worst_socket: Option<WorstSocket>,
    /// What the flood detector says; none before its first look, and for listeners that are not counted apart.
    #[serde(flatten, serialize_with = "fields_or_nulls")]
    pub verdict: Option<Verdict>,
    /// What became of a sample of its SYNs.
    #[serde(skip)]
    pub sample: HandshakeStats,
    /// SYNs that repeat an earlier one, an estimate from a sample, and rather too low: a few of a hundred are missed
    /// (see detection.md).
    pub syns_repeated: u64,
    /// Half of the 95 % confidence interval of `syns_repeated`.
    pub syns_repeated_error: u64,
    /// Requests that their client reset before the handshake was completed, as half-open health checks and scans do,
    /// an estimate from a sample.
    pub syns_aborted: u64,
    /// Half of the 95 % confidence interval of `syns_aborted`; 0: exact, but for a few of a hundred that are missed.
    pub syns_aborted_error: u64,
    /// Distinct sources of SYNs in the last second or so in which there were any, an estimate (standard error 1.2 %);
    /// null while there were none.
    pub distinct_sources: Option<f64>,
    /// Half-open requests by source at the last census, at most ten, most first; exact.
    pub half_open_sources: Vec<SourceCount>,
}

impl Listener {
    /// One that nothing was counted for yet.
    #[must_use]
    pub fn new(netns: u32, address: IpAddr, port: u16) -> Self {
        Self {
            netns,
            address,
            port,
            device: None,
            device_index: 0,
            dual_stack: false,
            process: None,
            uid: None,
            sockets: 1,
            shares_slot: false,
            syns_unseen: false,
            syns_received: 0,
            syns_by_family: ByFamily::default(),
            delivery: None,
            drop_reasons: Vec::new(),
            diverted_from: None,
            syn_rate: 0.0,
            handshakes_completed: 0,
            handshakes_by_family: ByFamily::default(),
            completed: ByFamily::default(),
            completed_unwatched: ByFamily::default(),
            handshake_time: Histogram::default(),
            handshakes_unanswered: 0,
            handshakes_expired: None,
            queues: None,
            worst_socket: None,
            verdict: None,
            sample: HandshakeStats::default(),
            syns_repeated: 0,
            syns_repeated_error: 0,
            syns_aborted: 0,
            syns_aborted_error: 0,
            distinct_sources: None,
            half_open_sources: Vec::new(),
        }
    }

    /// Its address, with the device that it is bound to: `0.0.0.0`, `0.0.0.0%eth0`.
    #[must_use]
    pub fn at(&self) -> String {
        let device = self.device.as_ref().map_or_else(String::new, |device| format!("%{device}"));
        format!("{}{device}", self.address)
    }

    /// Its address, device and port, as ss(8) writes them: `0.0.0.0%eth0:80`, `[::]%eth0:80`.
    #[must_use]
    pub fn place(&self) -> String {
        listener_place(self.address, self.device.as_deref(), self.port)
    }

    /// Fills the figures that follow from others.
    #[must_use]
    pub fn derived(mut self) -> Self {
        self.syns_received = self.syns_by_family.total();
        self.handshakes_by_family = ByFamily {
            ipv4: self.completed.ipv4 + self.completed_unwatched.ipv4,
            ipv6: self.completed.ipv6 + self.completed_unwatched.ipv6,
        };
        self.handshakes_completed = self.handshakes_by_family.total();
        // The counters are read one after the other, so the difference can be short of zero for a moment.
        let half_open = self.queues.map_or(0, |queues| u64::from(queues.half_open));
        if let Some(delivery) = &mut self.delivery {
            let seen = delivery.delivered.saturating_add(delivery.diverted);
            delivery.undelivered = self.syns_received.saturating_sub(seen);
        }
        (self.syns_repeated, self.syns_repeated_error) = (self.sample.repeated, self.sample.repeated_error());
        (self.syns_aborted, self.syns_aborted_error) = (self.sample.aborted, self.sample.aborted_error());
        let aborted = self.syns_aborted.saturating_sub(self.syns_aborted_error);
        let answered = self.completed.total().saturating_add(half_open).saturating_add(aborted);
        self.handshakes_unanswered = self.syns_for_tcp().saturating_sub(answered);
        self.handshakes_expired = self.queues.map(|queues| self.expired(queues.drops));
        self
    }

    /// Whether both are the same listener: namespace, address, port and device.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |of: &Self| (of.netns, of.address, of.port, of.device_index);
        identity(self) == identity(other)
    }

    /// SYNs that reached this listener; where that is not known, those that were sent to it.
    #[must_use]
    pub fn syns_for_tcp(&self) -> u64 {
        self.delivery.map_or(self.syns_received, |delivery| delivery.reached())
    }

    /// Notes whether its SYNs come by interfaces that are not watched.
    pub fn note_loopback(&mut self, is_watched: bool) {
        let by_others = self.completed_unwatched.total() > 0 && self.completed.total() == 0;
        let by_loopback = self.address.to_canonical().is_loopback() && !is_watched;
        self.syns_unseen = self.syns_received == 0 && self.syns_for_tcp() == 0 && (by_others || by_loopback);
    }

    /// Unanswered SYNs without those of which no request was made, or not one of their own: those that were turned
    /// away, and those that repeat another.
    ///
    /// One SYN can be both, so the larger of the two counts and not their sum; of an estimate its lower end. That makes
    /// it a bound from above, for each connection and so for all. A listener that is older than the daemon turned SYNs
    /// away that nobody counted: of it none is known for sure to be among these.
    fn expired(&self, drops: u64) -> u64 {
        // A repeat of one whose request was there is not among those that TCP looked up.
        let answered_by_request = self.delivery.map_or(0, |delivery| delivery.undelivered);
        let repeated = self.syns_repeated.saturating_sub(self.syns_repeated_error).saturating_sub(answered_by_request);
        let is_older = self.uid.is_none();
        let turned_away = if is_older { 0 } else { drops.saturating_sub(answered_by_request) };
        self.handshakes_unanswered.saturating_sub(repeated.max(turned_away))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn web() -> Listener {
        Listener {
            uid: Some(0),
            syns_by_family: ByFamily { ipv4: 100, ipv6: 50 },
            completed: ByFamily { ipv4: 90, ipv6: 40 },
            completed_unwatched: ByFamily { ipv4: 2, ipv6: 1 },
            queues: Some(ListenerQueues { half_open: 5, ..ListenerQueues::default() }),
            ..Listener::new(1, Ipv6Addr::UNSPECIFIED.into(), 443)
        }
    }

    #[test]
    fn unanswered_are_those_of_watched_interfaces_that_are_not_half_open() {
        let web = web().derived();
        assert_eq!((web.syns_received, web.handshakes_completed), (150, 133));
        assert_eq!(web.handshakes_unanswered, 150 - 130 - 5);
        let raced = Listener { completed: ByFamily { ipv4: 1_000, ipv6: 0 }, ..web };
        assert_eq!(raced.derived().handshakes_unanswered, 0, "no more than were received");
    }

    #[test]
    fn syns_that_nobody_watches_are_not_known_to_be_none() {
        let shown = |listener: Listener, is_watched| {
            let mut listener = listener.derived();
            listener.note_loopback(is_watched);
            let cells = ["SYNS", "SYN/S", "UNANSWERED", "COMPLETED"].map(|head| {
                let column =
                    |field: &&crate::field::Field<Listener>| field.column.as_ref().is_some_and(|it| it.head == head);
                crate::listener_fields::FIELDS.iter().find(column).expect("a column").text(&listener)
            });
            cells.join(" ")
        };
        let loopback = Listener {
            completed_unwatched: ByFamily { ipv4: 31, ipv6: 0 },
            ..Listener::new(1, [127, 0, 0, 1].into(), 19_246)
        };
        assert_eq!(shown(loopback.clone(), false), "- - - 31");
        let any = Listener { address: Ipv6Addr::UNSPECIFIED.into(), ..loopback.clone() };
        assert_eq!(shown(any.clone(), false), "- - - 31", "so far nobody came by another interface");
        let idle = |address: Ipv6Addr| Listener::new(1, address.into(), 80);
        assert_eq!(shown(idle(Ipv6Addr::LOCALHOST), false), "- - - 0");
        assert_eq!(shown(idle(Ipv6Addr::LOCALHOST), true), "0 0 0 0");
        assert_eq!(shown(idle(Ipv6Addr::UNSPECIFIED), false), "0 0 0 0", "nobody came");
        assert_eq!(shown(web(), false), "150 0 15 133");
    }

    #[test]
    fn expired_are_those_that_were_neither_turned_away_nor_repeats() {
        let with = |repeated, variance, drops, uid| {
            let mut web = Listener { uid, ..web() };
            (web.sample.repeated, web.sample.repeated_variance) = (repeated, variance);
            web.queues.as_mut().unwrap().drops = drops;
            web.derived().handshakes_expired
        };
        assert_eq!(with(0, 0, 0, Some(0)), Some(15), "all that are unanswered");
        assert_eq!((with(4, 0, 0, Some(0)), with(0, 0, 7, Some(0))), (Some(11), Some(8)));
        assert_eq!((with(4, 0, 7, Some(0)), with(9, 0, 7, Some(0))), (Some(8), Some(6)), "the same SYN may be both");
        assert_eq!(with(9, 1, 0, Some(0)), Some(15 - 7), "of an estimate its lower end");
        assert_eq!(with(4, 0, 7, None), Some(11), "how many of the 7 were counted is not known");
        assert_eq!(with(99, 0, 0, Some(0)), Some(0));
        assert_eq!(Listener { queues: None, ..web() }.derived().handshakes_expired, None, "no census saw it");
    }

    #[test]
    fn in_json_what_is_not_known_is_null_and_what_is_known_comes_back() {
        let known = Listener { verdict: Some(Verdict::default()), ..web() };
        let unknown = Listener { queues: None, ..web() };
        let json = [&known, &unknown].map(|listener| serde_json::to_value(listener).unwrap());
        assert_eq!((&json[0]["half_open"], &json[0]["verdict"]), (&5.into(), &"none".into()));
        assert_eq!(json[1]["overflows"], serde_json::Value::Null);
        let keys = json.each_ref().map(|json| json.as_object().unwrap().keys().collect::<Vec<_>>());
        assert_eq!(keys[0], keys[1]);
        let back = json.clone().map(|json| serde_json::from_value::<Listener>(json).unwrap());
        assert_eq!(
            [(back[0].queues, back[0].verdict), (back[1].queues, back[1].verdict)],
            [(known.queues, known.verdict), (None, None)]
        );
    }
}
