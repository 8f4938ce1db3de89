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
    /// SYNs sent to this listener for which TCP looked elsewhere: their destination was translated (DNAT, `REDIRECT`),
    /// or a transparent proxy took them (`TPROXY`). Also those that TCP did not look up in this network namespace while
    /// the kernel, asked for two seconds a minute, dropped fewer than half of them: they go to another namespace.
    #[serde(rename = "syns_diverted")]
    pub diverted: u64,
    /// Those of `diverted` that TCP looked up nowhere in this network namespace.
    #[serde(skip)]
    pub elsewhere: u64,
    /// SYNs sent to another address or port that reached this listener.
    #[serde(rename = "syns_diverted_here")]
    pub diverted_here: u64,
    /// SYNs sent to this listener that TCP did not look up while the kernel, asked for two seconds a minute, dropped
    /// half of them or more; `drop_reasons` says why.
    #[serde(rename = "syns_filtered", default)]
    pub filtered: u64,
    /// SYNs sent to this listener that TCP has not looked up, of which it is not known what became: dropped before TCP,
    /// sent on to another namespace, or repeats of one whose request waits for its answer.
    #[serde(rename = "syns_undelivered")]
    pub undelivered: u64,
}

impl Delivery {
    /// SYNs that were sent to the listener and did not reach it.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.diverted.saturating_add(self.filtered).saturating_add(self.undelivered)
    }

    /// SYNs that reached the listener.
    #[must_use]
    pub const fn reached(&self) -> u64 {
        self.delivered.saturating_add(self.diverted_here)
    }
}
