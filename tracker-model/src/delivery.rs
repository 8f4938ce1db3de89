//! Which SYNs reached TCP, and what became of the others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the SYNs of a listener went. After netfilter, TCP looks for the listener of each SYN, at the address and port
/// that rules may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// SYNs sent to this listener that reached it.
    #[serde(rename = "syns_delivered")]
    pub delivered: u64,
    /// SYNs sent to this listener for which TCP looked elsewhere in this network namespace: their destination was
    /// translated (DNAT, `REDIRECT`), or a transparent proxy took them (`TPROXY`).
    #[serde(rename = "syns_diverted")]
    pub diverted: u64,
    /// SYNs sent to another address or port that reached this listener.
    #[serde(rename = "syns_diverted_here")]
    pub diverted_here: u64,
    /// SYNs sent to this listener that TCP has not looked up in this network namespace: dropped before TCP, sent on to
    /// another namespace, or repeats of one whose request waits for its answer.
    #[serde(rename = "syns_undelivered")]
    pub undelivered: u64,
}

impl Delivery {
    /// SYNs that reached the listener.
    #[must_use]
    pub const fn reached(&self) -> u64 {
        self.delivered.saturating_add(self.diverted_here)
    }
}
