//! The verdicts and figures of the flood detector.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::worst_socket::WorstSocket;

named! {
    /// What the flood detector says of a listener.
    #[derive(Default)]
    pub enum Class {
        /// Nothing unusual.
        #[default]
        None,
        /// A SYN flood from sources all over: forged addresses or a botnet, which SYNs alone cannot tell apart.
        Spoofed,
        /// A SYN flood from one source.
        SingleSource,
        /// A SYN flood from one prefix.
        Prefix,
        /// Much more than usual, and answered: legitimate, no alarm.
        Surge,
        /// The application does not accept as fast as connections come.
        SlowAccept,
        /// SYNs to many ports where nothing listens; never of a listener.
        Scan,
    }
}

impl Class {
    /// All of them that a listener can have.
    pub const OF_LISTENERS: [Self; 6] =
        [Self::None, Self::Spoofed, Self::SingleSource, Self::Prefix, Self::Surge, Self::SlowAccept];
    /// All of them that the SYNs to no listener can have.
    pub const OF_NO_LISTENER: [Self; 5] = [Self::None, Self::Spoofed, Self::SingleSource, Self::Prefix, Self::Scan];

    /// Whether it is a SYN flood.
    #[must_use]
    pub const fn is_flood(self) -> bool {
        matches!(self, Self::Spoofed | Self::SingleSource | Self::Prefix)
    }
}

/// What the flood detector says of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Verdict of the flood detector; null before its first look, and for listeners without counters of their own.
    #[serde(rename = "verdict")]
    pub class: Class,
    /// Since when the verdict holds: the onset of its alert, where it has one; null while it never changed.
    #[serde(rename = "verdict_since")]
    pub since: Option<Timestamp>,
    /// `id` of the alert that the verdict belongs to; null when there is no alert.
    pub alert: Option<u64>,
}

/// The figures that a verdict rests on. Those of a rate are over the last two seconds or, of an alert that is over, the
/// last two seconds in which it went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FloodEvidence {
    /// SYNs since the onset, repeats and those of legitimate clients included. Exact.
    pub syns: u64,
    /// SYNs to the listener since the onset that did not reach TCP there, and are not among `syns`.
    #[serde(default)]
    pub undelivered: u64,
    /// Why the kernel drops them (`enum skb_drop_reason`), the most frequent reason first, while it does.
    #[serde(default)]
    pub drop_reasons: Vec<String>,
    /// End of the time that the rates are over: a moment ago, or the end of the flood; null before there are rates.
    pub rates_until: Option<Timestamp>,
    /// Length of that time, seconds: 2, or less just after the onset.
    pub rates_seconds: f64,
    /// SYNs per second.
    pub syn_rate: f64,
    /// Highest `syn_rate` since the onset.
    pub peak_syn_rate: f64,
    /// SYNs per second that were not completed, not even after the usual time; without those that were.
    pub unanswered_rate: f64,
    /// SYNs per second that repeat no earlier one, an estimate: connections that clients begin; null when nothing was
    /// sampled.
    #[serde(default)]
    pub new_connection_rate: Option<f64>,
    /// Handshakes completed per second.
    pub completed_rate: f64,
    /// Handshakes completed since the onset. Exact.
    #[serde(default)]
    pub completed: u64,
    /// Handshakes completed per second before the onset.
    pub usual_completed_rate: f64,
    /// Distinct sources since the onset, an estimate with a standard error of `distinct_sources_error`.
    pub distinct_sources: f64,
    /// Relative standard error of `distinct_sources`, such as 0.012.
    pub distinct_sources_error: f64,
    /// Sources with the largest shares of the last SYNs, at most ten. One whose share is not larger than its error is
    /// left out.
    pub top_sources: Vec<SourceShare>,
    /// Prefixes (IPv4 /24 and /16, IPv6 /64 and /48) with the largest shares, at most ten. One whose share is not
    /// larger than its error is left out, and a wider one when it holds hardly more than a narrower one in it.
    pub top_prefixes: Vec<SourceShare>,
    /// Share of SYNs that repeat an earlier one, an estimate; null when nothing was sampled.
    pub repeated_share: Option<f64>,
    /// Share of sampled connections, begun since the onset, that were completed, an estimate; null when nothing was
    /// sampled. Unlike the rates it goes by connection: an ACK completes the one of its own SYN or none.
    pub completed_share: Option<f64>,
    /// Half-open requests at the last census; null before it, as the queues.
    pub half_open: Option<u32>,
    /// Requests in the SYN queue.
    pub syn_queue: Option<u32>,
    /// Those of them whose SYN-ACK was not yet repeated.
    pub syn_queue_young: Option<u32>,
    /// Limit of the SYN queue.
    pub syn_queue_max: Option<u32>,
    /// Connections that wait for `accept()`.
    pub accept_queue: Option<u32>,
    /// Limit of the accept queue.
    pub accept_queue_max: Option<u32>,
    /// Requests that the listener turned away since `dropped_since`; null when not known.
    pub dropped: Option<u64>,
    /// The last census before the onset, from which `dropped` counts; null when the listener was opened after it:
    /// `dropped` then counts since `listen()`.
    #[serde(default)]
    pub dropped_since: Option<Timestamp>,
    /// Connections that clients have tried since the accept queue filled up and that were not made: each counts once,
    /// however often its SYN is repeated. An estimate from the sample; null when the queue was not full.
    pub waiting_clients: Option<u64>,
    /// The socket of a `SO_REUSEPORT` group whose accept queue is fullest, with its process; null of a single socket.
    pub worst_socket: Option<WorstSocket>,
    /// Ports without a listener that were tried since the onset: only of a scan. Exact.
    pub ports: Option<u32>,
    /// Times that it began again after a pause of less than a minute, as pulsed floods do.
    pub pulses: u32,
}

/// A source address or prefix and its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceShare {
    /// Address or prefix: `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/64`.
    pub source: String,
    /// Share of the SYNs, 0 to 1, an estimate from a random sample.
    pub share: f64,
    /// Half of the 95 % confidence interval of `share`.
    pub error: f64,
    /// Whether it completes most of its handshakes, as real clients do and no forged address can: an estimate.
    #[serde(default)]
    pub completes: bool,
}

impl fmt::Display for SourceShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.1}±{:.1} %", self.source, self.share * 100.0, self.error * 100.0)?;
        f.write_str(if self.completes { " (completes handshakes)" } else { "" })
    }
}
