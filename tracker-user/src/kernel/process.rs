//! Which process holds a socket that is older than the daemon: by the inode of its file, in `/proc/PID/fd`.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::{Duration, Instant},
};

use procfs::process::FDTarget;
use tracker_model::process::Process;

/// Between two searches of all processes; on a large host one takes seconds.
const PAUSE: Duration = Duration::from_secs(30);

/// What was asked for, and where the answer will come.
type Search = (HashSet<u64>, Receiver<HashMap<u64, Process>>);

/// After so many searches in vain a socket is no longer a reason for one.
const TRIES: u8 = 2;

/// Finds the holders of sockets, in a thread of its own.
#[derive(Default)]
pub struct Finder {
    found: HashMap<u64, Process>,
    wanted: HashSet<u64>,
    /// How often each was looked for in vain: a socket of the kernel itself (NFS, iSCSI) has no process at all.
    vain: HashMap<u64, u8>,
    search: Option<Search>,
    last: Option<Instant>,
}

impl Finder {
    /// The holder of a socket, if it was found; else it is looked for by the next search.
    pub fn holder(&mut self, inode: u64) -> Option<Process> {
        let found = self.found.get(&inode).cloned();
        if found.is_none() && inode != 0 && self.vain.get(&inode).is_none_or(|times| *times < TRIES) {
            self.wanted.insert(inode);
        }
        found
    }

    /// Takes over what a search has found, and begins one when something is wanted.
    pub fn search(&mut self) {
        if let Some((wanted, search)) = &self.search {
            match search.try_recv() {
                Ok(found) => {
                    self.vain.retain(|inode, _| wanted.contains(inode));
                    for inode in wanted.iter().filter(|inode| !found.contains_key(inode)) {
                        *self.vain.entry(*inode).or_default() += 1;
                    }
                    self.found = found;
                    self.search = None;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.search = None,
            }
        }
        let rested = self.last.is_none_or(|last| last.elapsed() >= PAUSE);
        if self.search.is_none() && rested && !self.wanted.is_empty() {
            let mut wanted = std::mem::take(&mut self.wanted);
            wanted.extend(self.found.keys().chain(self.vain.keys()));
            let asked = wanted.clone();
            let (sender, receiver) = channel();
            self.last = Some(Instant::now());
            let thread = std::thread::Builder::new().name("proc".into());
            match thread.spawn(move || sender.send(holders(&wanted))) {
                Ok(_) => self.search = Some((asked, receiver)),
                Err(error) => tracing::warn!("search for processes: {error}"),
            }
        }
    }
}

/// Holders of the wanted sockets. Processes that may not be read are passed over.
fn holders(wanted: &HashSet<u64>) -> HashMap<u64, Process> {
    let mut found = HashMap::new();
    let Ok(processes) = procfs::process::all_processes() else { return found };
    for process in processes.flatten() {
        let Ok(files) = process.fd() else { continue };
        for file in files.flatten() {
            if let FDTarget::Socket(inode) = file.target
                && wanted.contains(&inode)
                && let Ok(stat) = process.stat()
            {
                // A socket shared by a parent and its workers is the one's with the lowest process id.
                let pid = u32::try_from(stat.pid).unwrap_or_default();
                let holder = found.entry(inode).or_insert_with(|| Process { pid, comm: stat.comm.clone() });
                if pid < holder.pid {
                    *holder = Process { pid, comm: stat.comm };
                }
            }
        }
    }
    found
}
