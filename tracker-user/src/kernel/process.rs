//! Which process holds a socket that is older than the daemon: by the inode of its file, in `/proc/PID/fd`.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::{Duration, Instant},
};

use procfs::process::FDTarget;
use tracker_model::process::Process;

use super::priority;

/// Between two searches of all processes; on a large host one takes seconds.
const PAUSE: Duration = Duration::from_secs(30);

/// A socket that this many searches did not find is no reason for another.
const TRIES: u8 = 2;

/// The sockets that are looked for, and where the answer will come.
type Search = (HashSet<u64>, Receiver<HashMap<u64, Process>>);

/// Finds the processes that hold sockets, in a thread of its own, and keeps them while they are asked for.
#[derive(Default)]
pub struct SocketOwnerCache {
    found: HashMap<u64, Process>,
    /// Sockets that were asked for since the last search began.
    asked: HashSet<u64>,
    /// How many searches did not find a socket: one of the kernel itself (NFS, iSCSI) has no process at all.
    misses: HashMap<u64, u8>,
    search: Option<Search>,
    last: Option<Instant>,
}

impl SocketOwnerCache {
    /// The process that holds a socket, if it was found; else the next search looks for it.
    pub fn owner(&mut self, inode: u64) -> Option<Process> {
        if inode != 0 {
            self.asked.insert(inode);
        }
        self.found.get(&inode).cloned()
    }

    /// Takes over what a search has found, and begins one when a socket was asked for that is not known.
    pub fn search(&mut self) {
        self.take_over();
        let rested = self.last.is_none_or(|last| last.elapsed() >= PAUSE);
        if self.search.is_some()
            || !rested
            || self.asked.iter().all(|inode| self.found.contains_key(inode) || self.is_given_up(*inode))
        {
            return;
        }
        let mut wanted = std::mem::take(&mut self.asked);
        // What nobody asks for any more is forgotten.
        self.misses.retain(|inode, _| wanted.contains(inode));
        wanted.retain(|inode| !self.is_given_up(*inode));
        let asked = wanted.clone();
        let (sender, receiver) = channel();
        self.last = Some(Instant::now());
        let thread = std::thread::Builder::new().name("proc".into());
        let search = move || {
            priority::restore();
            // Nobody waits any more when sending fails.
            let _ = sender.send(owners(&wanted));
        };
        match thread.spawn(search) {
            Ok(_) => self.search = Some((asked, receiver)),
            Err(error) => tracing::warn!("search for processes: {error}"),
        }
    }

    fn is_given_up(&self, inode: u64) -> bool {
        self.misses.get(&inode).is_some_and(|misses| *misses >= TRIES)
    }

    fn take_over(&mut self) {
        let Some((wanted, search)) = &self.search else { return };
        match search.try_recv() {
            Ok(found) => {
                for inode in wanted.iter().filter(|inode| !found.contains_key(inode)) {
                    let misses = self.misses.entry(*inode).or_default();
                    *misses = misses.saturating_add(1);
                }
                self.found = found;
                self.search = None;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.search = None,
        }
    }
}

/// A process that runs, with its name.
pub fn named(pid: u32) -> Option<Process> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Process { pid, comm: comm.trim_end().to_owned() })
}

/// Processes that hold these sockets. Those that may not be read are passed over.
fn owners(wanted: &HashSet<u64>) -> HashMap<u64, Process> {
    let mut found = HashMap::new();
    let Ok(processes) = procfs::process::all_processes() else { return found };
    for process in processes.flatten() {
        let Ok(files) = process.fd() else { continue };
        for file in files.flatten() {
            if let FDTarget::Socket(inode) = file.target
                && wanted.contains(&inode)
                && let Ok(stat) = process.stat()
            {
                // A socket shared by a parent and its workers belongs to the one with the lowest process id.
                let pid = u32::try_from(stat.pid).unwrap_or_default();
                let owner = found.entry(inode).or_insert_with(|| Process { pid, comm: stat.comm.clone() });
                if pid < owner.pid {
                    *owner = Process { pid, comm: stat.comm };
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::fs::MetadataExt as _};

    use super::*;

    /// Runs a search to its end, however recent the last one was.
    fn search(cache: &mut SocketOwnerCache) {
        cache.last = None;
        cache.search();
        while cache.search.is_some() {
            std::thread::sleep(Duration::from_millis(1));
            cache.take_over();
        }
    }

    #[test]
    fn sockets_without_a_process_are_given_up_and_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
        let own = std::fs::metadata(path).unwrap().ino();
        // The kernel gives socket inodes from the bottom up: none has such a number.
        let (kernel, mut cache) = (u64::MAX, SocketOwnerCache::default());
        for turn in 1..=300 {
            // Each turn a new one is the reason for a search.
            for inode in [own, kernel, kernel - turn] {
                cache.owner(inode);
            }
            search(&mut cache);
            assert_eq!(cache.owner(own).map(|process| process.pid), Some(std::process::id()));
            assert_eq!(cache.owner(kernel), None);
            assert!(cache.misses.len() <= 3 && cache.found.len() == 1, "{} {}", cache.misses.len(), cache.found.len());
        }
        assert_eq!(cache.misses[&kernel], TRIES);
    }
}
