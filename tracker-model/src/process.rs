//! Processes.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// The process behind a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// The name of the thread that called `listen()`, or of the process when the socket is older than the daemon.
    pub comm: String,
}

/// A process and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Ports.
    pub ports: u32,
}

/// `nginx (pid 815)`
impl Display for Process {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (pid {})", self.comm, self.pid)
    }
}

impl PortHolder {
    /// The process alone.
    #[must_use]
    pub fn process(&self) -> Process {
        Process { pid: self.pid, comm: self.comm.clone() }
    }
}
