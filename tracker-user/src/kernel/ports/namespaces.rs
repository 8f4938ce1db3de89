//! The other network namespaces of the host, for `--all-netns`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// Namespaces that are looked at, at most: each costs a walk over the host's whole table of sockets.
pub const MAX_NAMESPACES: usize = 256;

/// A network namespace, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number.
    pub netns: u32,
    /// Its name in `/run/netns`, or a process that lives in it.
    pub name: String,
    path: PathBuf,
}

/// A list of the network namespaces that is being made.
pub struct Listing {
    own: u32,
    /// Where a namespace may be found, and its name.
    paths: Box<dyn Iterator<Item = io::Result<(String, PathBuf)>>>,
    found: BTreeMap<u32, Namespace>,
}

impl Listing {
    /// Begins a list of all but `own`.
    pub fn new(own: u32) -> io::Result<Self> {
        Self::of_folders(own, Path::new("/run/netns"), Path::new("/proc"))
    }

    /// `names` need not be there, `processes` must: it has all namespaces in which a process lives.
    fn of_folders(own: u32, names: &Path, processes: &Path) -> io::Result<Self> {
        let with_names =
            fs::read_dir(names).into_iter().flatten().map(|entry| entry.map(|it| (name_of(&it.path()), it.path())));
        let is_process = |path: &Path| name_of(path).bytes().all(|byte| byte.is_ascii_digit());
        let processes = fs::read_dir(processes)?
            .map(|entry| entry.map(|entry| entry.path()))
            .filter(move |path| path.as_ref().map_or(true, |path| is_process(path)))
            .map(|path| path.map(|path| (format!("process {}", name_of(&path)), path.join("ns/net"))));
        Ok(Self { own, paths: Box::new(with_names.chain(processes)), found: BTreeMap::new() })
    }

    /// Looks at one more file; false when all were looked at.
    pub fn advance(&mut self) -> io::Result<bool> {
        let Some((name, path)) = self.paths.next().transpose()? else { return Ok(false) };
        // A process may end, and those of others may not be looked at without CAP_SYS_PTRACE.
        if let Some(netns) = fs::metadata(&path).ok().and_then(|file| u32::try_from(file.ino()).ok())
            && netns != self.own
        {
            self.found.entry(netns).or_insert(Namespace { netns, name, path });
        }
        Ok(true)
    }

    /// The namespaces, those with a name first, up to [`MAX_NAMESPACES`]; and the inode numbers of all, `own` included.
    pub fn finish(self) -> (Vec<Namespace>, BTreeSet<u32>) {
        let numbers = self.found.keys().copied().chain([self.own]).collect();
        let mut all: Vec<_> = self.found.into_values().collect();
        all.sort_by_key(|namespace| namespace.name.starts_with("process "));
        all.truncate(MAX_NAMESPACES);
        (all, numbers)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Namespace {
    /// Does something in the namespace, in a thread that ends with it.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        // Whatever the path is now, opening it must not wait: nobody may write to a FIFO.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?;
        if file.metadata()?.ino() != u64::from(self.netns) {
            return Err(io::Error::other("it is gone"));
        }
        in_thread(thread::Builder::new().name("netns".into()), move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            act()
        })
    }
}

/// Does something in a thread that ends with it. An error when the system refuses the thread.
fn in_thread<T: Send>(thread: thread::Builder, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread.spawn_scoped(scope, act)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// Whether the namespace of the calling thread has no TCP or UDP socket, `TIME_WAIT` included (`/proc/net/sockstat`).
pub fn is_empty() -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    sockets(&read("sockstat")) + sockets(&read("sockstat6")) == 0
}

/// Sockets in use, and those in `TIME_WAIT`.
fn sockets(text: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with("TCP") || line.starts_with("UDP"));
    let numbers = lines.flat_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let wanted = words.windows(2).filter(|pair| matches!(pair[0], "inuse" | "tw"));
        wanted.filter_map(|pair| pair[1].parse::<u64>().ok()).collect::<Vec<_>>()
    });
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_the_system_refuses_is_an_error() {
        let refused = in_thread(thread::Builder::new().stack_size(1 << 50), || Ok(()));
        assert!(refused.is_err());
        assert_eq!(in_thread(thread::Builder::new(), || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_list_is_made_in_steps_of_one_file() {
        // None is one's own, so that of this process is among the others.
        let (mut listing, mut steps) = (Listing::new(0).unwrap(), 0);
        while listing.advance().unwrap() {
            steps += 1;
            assert!(listing.found.len() <= steps);
        }
        let own = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        let (namespaces, numbers) = listing.finish();
        assert!(steps > 1 && numbers.contains(&own) && numbers.contains(&0));
        assert!(namespaces.iter().any(|namespace| namespace.netns == own));
    }

    #[test]
    fn a_list_without_proc_is_an_error() {
        let [absent, proc] = [Path::new("/nonexistent"), Path::new("/proc")];
        assert!(Listing::of_folders(0, absent, proc).is_ok() && Listing::of_folders(0, absent, absent).is_err());
    }

    #[test]
    fn sockets_are_those_in_use_and_in_time_wait() {
        let text = "sockets: used 290\nTCP: inuse 4 orphan 0 tw 21 alloc 5 mem 1\nUDP: inuse 2 mem 0\nUDPLITE: inuse \
                    0\n\
                    RAW: inuse 7\nFRAG: inuse 0 memory 0\n";
        assert_eq!(sockets(text), 27);
        assert_eq!(sockets("TCP6: inuse 3\nUDP6: inuse 1\n"), 4);
        assert_eq!(sockets(""), 0);
    }
}
