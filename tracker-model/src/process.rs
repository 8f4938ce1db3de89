//! Processes.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Name of the thread that made the call, or of the process when that is not known.
    pub comm: String,
}

/// A process and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortHolder {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Its ports; where sockets are counted, its sockets.
    pub ports: u32,
}

/// A process and its calls of `connect()`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortMaker {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Its calls of `connect()` in the last minute or two, as far as seen; those that failed are among them.
    pub connects: u32,
}

impl PortMaker {
    /// Those with the most calls first, at most `most` of them.
    #[must_use]
    pub fn most_first(makers: impl IntoIterator<Item = Self>, most: usize) -> Vec<Self> {
        let mut makers: Vec<_> = makers.into_iter().collect();
        makers.sort_unstable_by_key(|maker| (Reverse(maker.connects), maker.pid));
        makers.truncate(most);
        makers
    }

    /// The process alone.
    #[must_use]
    pub fn process(&self) -> Process {
        Process { pid: self.pid, comm: self.comm.clone() }
    }
}

/// `nginx (pid 815)`
impl Display for Process {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (pid {})", self.comm, self.pid)
    }
}

impl PortHolder {
    /// The processes by how often each is named, at most `most` of them.
    #[must_use]
    pub fn count<'a>(processes: impl IntoIterator<Item = &'a Process>, most: usize) -> Vec<Self> {
        let mut holders: BTreeMap<u32, Self> = BTreeMap::new();
        for Process { pid, comm } in processes {
            holders.entry(*pid).or_insert_with(|| Self { pid: *pid, comm: comm.clone(), ports: 0 }).ports += 1;
        }
        Self::most_first(holders.into_values(), most)
    }

    /// Those with the most ports first, at most `most` of them.
    #[must_use]
    pub fn most_first(holders: impl IntoIterator<Item = Self>, most: usize) -> Vec<Self> {
        let mut holders: Vec<_> = holders.into_iter().collect();
        holders.sort_unstable_by_key(|holder| (Reverse(holder.ports), holder.pid));
        holders.truncate(most);
        holders
    }

    /// The process alone.
    #[must_use]
    pub fn process(&self) -> Process {
        Process { pid: self.pid, comm: self.comm.clone() }
    }
}
