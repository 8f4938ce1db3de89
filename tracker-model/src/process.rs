//! Processes.

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
