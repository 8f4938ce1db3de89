//! Network namespaces that live as long as a value.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{fs::MetadataExt, process::CommandExt},
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use crate::command;

/// First part of the name of every namespace and directory; the process id of the lab and a number or word follow.
pub const PREFIX: &str = "trk-";

/// Where `ip netns` keeps named namespaces.
const DIRECTORY: &str = "/run/netns";

/// A network namespace of its own name. Dropping it ends every process in it and deletes it, also while a panic
/// unwinds.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: Arc<File>,
}

impl Namespace {
    /// Makes a namespace with loopback up and without duplicate address detection, so that its addresses serve at once.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        command::run("ip", ["netns", "add", &name])?;
        let path = Path::new(DIRECTORY).join(&name);
        let handle = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Self { name, handle: Arc::new(handle) };
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.router_solicitations"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, as `nsenter --net=` takes it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Its inode number, by which the kernel and tracker name it.
    #[must_use]
    pub fn inode(&self) -> u32 {
        let inode = self.handle.metadata().expect("fstat of an open namespace").ino();
        u32::try_from(inode).expect("nsfs has 32-bit inode numbers")
    }

    /// Runs `work` on a thread of its own inside. Sockets that it makes stay inside when they are handed out.
    ///
    /// Processes are started by [`Self::command`] instead: they would end with that thread.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&*self.handle, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Starts a thread of its own inside, which goes on when this call has returned.
    pub fn on_thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let handle = Arc::clone(&self.handle);
        let inside = move || {
            setns(&*handle, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            work()
        };
        thread::Builder::new().name(name.to_owned()).spawn(inside).with_context(|| format!("start the thread {name}"))
    }

    /// A command that will start inside, in the mount namespace of the lab, and end with the thread that started it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let handle = Arc::clone(&self.handle);
        let mut command = Command::new(program);
        // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes
        // the system calls setns (on a descriptor that it owns), prctl and sigprocmask, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                setns(&*handle, CloneFlags::CLONE_NEWNET)?;
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // A child inherits the signals that its parent blocks, and would not stop on them.
                SigSet::empty().thread_set_mask()?;
                Ok(())
            });
        }
        command
    }

    /// Sets a kernel parameter, such as `net.ipv4.tcp_syncookies`, inside.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(&path, value)).with_context(|| format!("set {key} to {value}"))
    }

    /// Runs `ip` with arguments parted by spaces, inside.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments.split_whitespace());
        command::run("ip", words)
    }

    /// Loads rules of nft(8), inside.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new().context("make a file for rules")?;
        file.write_all(rules.as_bytes()).context("write rules")?;
        let mut command = self.command("nft");
        command.arg("-f").arg(file.path());
        command::stdout_of(&mut command).map(drop)
    }

    /// A counter of `/proc/net/snmp` or `/proc/net/netstat`, such as `Tcp` `RetransSegs` or `TcpExt` `ListenDrops`.
    pub fn counter(&self, group: &str, name: &str) -> Result<u64> {
        let text = self.enter(|| -> Result<String> {
            Ok(fs::read_to_string("/proc/thread-self/net/snmp")?
                + &fs::read_to_string("/proc/thread-self/net/netstat")?)
        })?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let (names, values) = (lines.next().context("no such group")?, lines.next().context("no values")?);
        let index = names.split(' ').position(|candidate| candidate == name);
        let value = values.split(' ').nth(index.with_context(|| format!("no {group} {name}"))?);
        Ok(value.context("fewer values than names")?.parse()?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// A directory for files of one part of the lab, which goes when the value does.
pub fn scratch(part: &str) -> Result<TempDir> {
    let prefix = format!("{PREFIX}{}-{part}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make a directory for the lab's files")
}

/// Deletes the namespaces that labs of dead processes left behind, with the processes in them, and their files.
pub fn sweep() -> Result<()> {
    for name in left_in(Path::new(DIRECTORY))? {
        eprintln!("lab: deleting {name}, whose lab is gone");
        delete(&name)?;
    }
    let files = env::temp_dir();
    for name in left_in(&files)? {
        fs::remove_dir_all(files.join(&name)).with_context(|| format!("delete {name}"))?;
    }
    Ok(())
}

/// Names in a directory that are those of a lab whose process is gone.
fn left_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| owner(name).is_some_and(|pid| kill(pid, None) == Err(Errno::ESRCH))).collect())
}

/// The process whose lab uses this name.
fn owner(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok().map(Pid::from_raw)
}

/// Ends the processes inside, then takes the name away. The kernel frees the rest once nothing refers to it.
fn delete(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let listed = command::output("ip", ["netns", "pids", name])?;
        let pids: Vec<i32> = listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "processes {pids:?} in {name} do not end");
        for pid in pids {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("kill {pid} in {name}")),
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    command::run("ip", ["netns", "del", name])
}
