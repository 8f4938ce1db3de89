//! Counters and queues of listeners, and those of a network namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tracker_common::listener::ListenerQueues;

/// Counts of IPv4 and of IPv6 packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByFamily {
    /// IPv4.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
}

impl ByFamily {
    /// Both.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.ipv4 + self.ipv6
    }

    /// IPv4, IPv6.
    #[must_use]
    pub const fn to_array(self) -> [u64; 2] {
        [self.ipv4, self.ipv6]
    }
}

/// SYNs to one port.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortSyns {
    /// Port.
    pub port: u16,
    /// SYNs since the daemon started.
    pub syns: u64,
    /// SYNs per second, a mean that fades with a time constant of a minute; 0 when the port is quiet.
    pub syn_rate: f64,
}

/// Declares [`NamespaceCounters`]: a row for each counter, with its name in TcpExt and what it counts.
macro_rules! namespace_counters {
    ($($field:ident $name:literal $meaning:literal;)*) => {
        /// TCP counters of a network namespace since it was made (`/proc/net/netstat`, TcpExt;
        /// `Documentation/networking/snmp_counter.rst`). They are of all its listeners together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub struct NamespaceCounters {
            $( #[doc = concat!("`", $name, "`: ", $meaning, ".")] pub $field: u64, )*
        }

        impl NamespaceCounters {
            /// The name of each counter in TcpExt, and what it counts.
            pub const MEANINGS: &[(&str, &str)] = &[$( ($name, $meaning), )*];

            /// The counters of these values, by their name in TcpExt.
            #[must_use]
            pub fn from_names(value: impl Fn(&str) -> u64) -> Self {
                Self { $( $field: value($name), )* }
            }

            /// What they grew by since `before`.
            #[must_use]
            pub fn since(&self, before: &Self) -> Self {
                Self { $( $field: self.$field.saturating_sub(before.$field), )* }
            }

            /// Each counter with its name in TcpExt.
            #[must_use]
            pub fn named(&self) -> [(&'static str, u64); Self::MEANINGS.len()] {
                [$( ($name, self.$field), )*]
            }
        }
    };
}

namespace_counters! {
    syncookies_sent "SyncookiesSent" "SYN-ACKs that carried a cookie";
    syncookies_received "SyncookiesRecv" "ACKs that returned a cookie";
    syncookies_failed "SyncookiesFailed" "ACKs without a request and without a valid cookie";
    listen_overflows "ListenOverflows" "requests dropped because an accept queue was full";
    listen_drops "ListenDrops" "requests dropped for any reason";
    syn_queue_full_cookies "TCPReqQFullDoCookies" "SYNs answered with a cookie because a SYN queue was full";
    syn_queue_full_drops "TCPReqQFullDrop" "SYNs dropped because a SYN queue was full";
    embryonic_resets "EmbryonicRsts" "half-open requests that a reset ended";
    syn_retransmits "TCPSynRetrans" "SYNs and SYN-ACKs sent again";
}

/// What became of a sample of the SYNs, chosen by a hash of their addresses and ports. Each count is the sum of the
/// weights of the SYNs in it (a SYN of a one-in-n sample weighs n), and so an estimate of the count over all SYNs.
/// Repeats are rather too few: those of connections that made room for others count as first SYNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeStats {
    /// First SYNs of a connection.
    pub first: u64,
    /// Repeats: the same addresses, ports and sequence number again.
    pub repeated: u64,
    /// Handshakes completed.
    pub completed: u64,
    /// Connections that their client reset before the handshake was completed, in answer to the SYN-ACK.
    #[serde(default)]
    pub aborted: u64,
    /// Sum of weight * (weight - 1) over `aborted`.
    #[serde(default)]
    pub aborted_variance: u64,
    /// Connections that made room for others before they were completed; later repeats of theirs count as first SYNs.
    pub evicted: u64,
    /// Sum of weight * (weight - 1) over `repeated`: the variance of that estimate if its SYNs were chosen one by one.
    pub repeated_variance: u64,
}

impl HandshakeStats {
    /// Half of the 95 % confidence interval of `repeated`: twice its standard deviation.
    #[must_use]
    pub fn repeated_error(&self) -> u64 {
        error(self.repeated_variance)
    }

    /// The same of `aborted`.
    #[must_use]
    pub fn aborted_error(&self) -> u64 {
        error(self.aborted_variance)
    }
}

/// Twice the standard deviation.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an error bound"
)]
fn error(variance: u64) -> u64 {
    (2.0 * (variance as f64).sqrt()).ceil() as u64
}
