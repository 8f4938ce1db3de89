//! A range of ports.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of ports; both ends belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortRange {
    /// Lowest port.
    pub low: u16,
    /// Highest port.
    pub high: u16,
}

impl PortRange {
    /// How many ports it has.
    #[must_use]
    pub fn ports(self) -> u64 {
        (u64::from(self.high) + 1).saturating_sub(self.low.into())
    }
}

impl fmt::Display for PortRange {
    /// `40000-40099`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}
