//! The socket of a `SO_REUSEPORT` group that is worst off: the sum over the group hides it.

use std::fmt::{self, Display, Formatter};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{process::Process, text::grouped};

/// The listening socket whose accept queue is fullest, of a group of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorstSocket {
    /// Connections that wait for `accept()` on this socket.
    pub accept_queue: u32,
    /// Limit of its accept queue.
    pub accept_queue_max: u32,
    /// Sockets of the group whose accept queue is full.
    pub full: u32,
    /// Sockets of the group.
    pub sockets: u32,
    /// Inode number of its file, as `ss -e` shows it and as `/proc/PID/fd` has it.
    pub inode: u64,
    /// Process that called `listen()` for it, or that holds it; null when it is not known.
    pub process: Option<Process>,
    /// Thread that called `listen()` for it; null when that was the first of its process or is not known.
    pub thread: Option<Thread>,
}

/// A thread of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// Its name when it called `listen()`.
    pub name: String,
}

impl WorstSocket {
    /// Who listens on it: `python3 (pid 815), thread worker-3 (tid 819)`; none when nothing is known.
    #[must_use]
    pub fn owner(&self) -> Option<String> {
        let process = self.process.as_ref()?;
        Some(match &self.thread {
            Some(Thread { tid, name }) => format!("{process}, thread {name} (tid {tid})"),
            None => process.to_string(),
        })
    }
}

/// `9/8, 1 of 4 full`
impl Display for WorstSocket {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let [length, limit] = [self.accept_queue, self.accept_queue_max].map(|count| grouped(count.into()));
        write!(formatter, "{length}/{limit}, {} of {} full", grouped(self.full.into()), grouped(self.sockets.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_queue_against_its_limit_and_names_its_owner() {
        let process = Some(Process { pid: 815, comm: "python3".to_owned() });
        let thread = Some(Thread { tid: 819, name: "worker-3".to_owned() });
        let (accept_queue, accept_queue_max, full, sockets) = (9, 8, 1, 4);
        let worst = WorstSocket { accept_queue, accept_queue_max, full, sockets, inode: 7, process, thread };
        assert_eq!(worst.to_string(), "9/8, 1 of 4 full");
        assert_eq!(worst.owner().as_deref(), Some("python3 (pid 815), thread worker-3 (tid 819)"));
        let alone = WorstSocket { thread: None, ..worst };
        assert_eq!(alone.owner().as_deref(), Some("python3 (pid 815)"));
        assert_eq!(WorstSocket { process: None, ..alone }.owner(), None);
    }
}
