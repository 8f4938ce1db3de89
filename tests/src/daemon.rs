//! tracker itself: the daemon in a namespace, and its commands.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tracker_model::api::{States, Status};
use tracker_model::listener::{Listener, Listeners};

use crate::{
    Family, bpf, command, http,
    metrics::Scrape,
    namespace::{self, Namespace},
    process::Process,
    ss::Counts,
};

/// Port of the daemon's metrics in the lab.
const WEB_PORT: u16 = 10046;
/// How long a daemon may take to start, or to say why it does not.
const START: Duration = Duration::from_secs(30);
/// How long a new snapshot may be awaited, with a census: a little more than the default interval of both.
const SNAPSHOT: Duration = Duration::from_secs(8);
/// How long a census may be awaited when its figures are asked for.
const CENSUS: Duration = Duration::from_secs(5);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// The binary under test: `TRACKER_BIN`, or the one that was built beside the tests.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TRACKER_BIN") {
        return Ok(path.into());
    }
    let test = env::current_exe().context("where the tests are")?;
    let beside = test.ancestors().skip(1).take(2).map(|directory| directory.join("tracker")).find(|path| path.exists());
    beside.context("no tracker beside the tests: build it with `cargo build -p tracker-user`, or set TRACKER_BIN")
}

/// A copy of the binary that every user may run, wherever the first one is. It goes when the value does.
pub fn readable_binary() -> Result<Copy> {
    let directory = namespace::scratch("binary")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let path = directory.path().join("tracker");
    fs::copy(binary()?, &path).context("copy tracker")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(Copy { path, _directory: directory })
}

/// A copy of the binary.
#[derive(Debug)]
pub struct Copy {
    /// Where it is.
    pub path: PathBuf,
    _directory: TempDir,
}

/// How a daemon is started.
#[derive(Debug)]
pub struct Settings<'a> {
    namespace: &'a Namespace,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    socket: Option<PathBuf>,
    has_census: bool,
    binary: Option<Copy>,
    directory: TempDir,
}

/// A daemon in `namespace`, with a socket and an empty configuration of its own.
pub fn settings(namespace: &Namespace) -> Result<Settings<'_>> {
    let directory = namespace::scratch("daemon")?;
    fs::write(directory.path().join("tracker.toml"), "")?;
    Ok(Settings {
        namespace,
        arguments: Vec::new(),
        wrapper: Vec::new(),
        socket: None,
        has_census: true,
        binary: None,
        directory,
    })
}

impl<'a> Settings<'a> {
    /// Adds arguments of `tracker run`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts it through a program that runs the command given to it last, such as setpriv.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Another path for the socket.
    #[must_use]
    pub fn socket(mut self, path: &Path) -> Self {
        self.socket = Some(path.to_owned());
        self
    }

    /// For a kernel that lets it take no census: it is started when it answers.
    #[must_use]
    pub fn without_census(mut self) -> Self {
        self.has_census = false;
        self
    }

    /// Replaces the empty configuration file.
    pub fn configuration(self, text: &str) -> Result<Self> {
        fs::write(self.configuration_path(), text)?;
        Ok(self)
    }

    /// Lets a user without rights keep the socket in the daemon's directory, and run the binary.
    pub fn owned_by(mut self, user: u32) -> Result<Self> {
        chown(self.directory.path(), Some(user), Some(user)).context("give the directory away")?;
        self.binary = Some(readable_binary()?);
        Ok(self)
    }

    /// Where its configuration is.
    #[must_use]
    pub fn configuration_path(&self) -> PathBuf {
        self.directory.path().join("tracker.toml")
    }

    fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.directory.path().join("tracker.sock"))
    }

    fn command(&self) -> Result<Command> {
        let binary = self.binary.as_ref().map_or_else(binary, |copy| Ok(copy.path.clone()))?;
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([binary]);
        let mut command = self.namespace.command(words.next().context("no word")?);
        command.args(words).arg("run").arg("--config").arg(self.configuration_path());
        command.arg("--api.socket").arg(self.socket_path());
        if !self.arguments.iter().any(|argument| argument == "--web.listen-address") {
            command.arg("--web.listen-address").arg(format!("127.0.0.1:{WEB_PORT}"));
        }
        command.args(&self.arguments);
        without_settings(&mut command);
        Ok(command)
    }

    /// Starts it and waits until it answers commands with a first census. No TCP connection is made for that.
    pub fn start(self) -> Result<Daemon<'a>> {
        let (socket, has_census) = (self.socket_path(), self.has_census);
        let process = Process::start("tracker", &mut self.command()?, &self.directory.path().join("log"))?;
        let mut daemon =
            Daemon { namespace: self.namespace, process, socket, _binary: self.binary, directory: self.directory };
        let (socket, process) = (&daemon.socket, &mut daemon.process);
        process.wait_until(START, || {
            ask::<Status>(socket, &["status"]).is_ok_and(|status| status.census.is_some() || !has_census)
        })?;
        Ok(daemon)
    }

    /// Starts it, sends SIGTERM after a moment, in whatever it does then, and checks that it ends well and leaves
    /// nothing.
    pub fn stopped_after(self, moment: Duration) -> Result<()> {
        let mut process = Process::start("tracker", &mut self.command()?, &self.directory.path().join("log"))?;
        thread::sleep(moment);
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(STOP)?;
        // Before it listens for signals, the signal ends it as it ends any process.
        let ended = status.success() || status.signal() == Some(Signal::SIGTERM as i32);
        ensure!(ended, "tracker ended with {status} on SIGTERM after {moment:?}:\n{}", process.output());
        ensure!(!fs::exists(self.socket_path())?, "the socket is left after {moment:?}");
        bpf::ensure_nothing_left(self.namespace)
    }

    /// Runs it although it cannot start, and returns how it ended.
    pub fn refused(self) -> Result<Refusal> {
        let mut process = Process::start("tracker", &mut self.command()?, &self.directory.path().join("log"))?;
        let status = process.wait(START)?;
        // A path of the case's own may be another daemon's socket, or no place for one at all.
        ensure!(self.socket.is_some() || !fs::exists(self.socket_path())?, "the socket is left");
        Ok(Refusal { status, output: process.output() })
    }
}

/// How a daemon that could not start ended.
#[derive(Debug)]
pub struct Refusal {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote.
    pub output: String,
}

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon<'a> {
    namespace: &'a Namespace,
    process: Process,
    socket: PathBuf,
    _binary: Option<Copy>,
    directory: TempDir,
}

impl<'a> Daemon<'a> {
    /// Starts one with default settings.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        settings(namespace)?.start()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A directory that lives as long as the daemon.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it serves metrics, in its namespace.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, WEB_PORT).into()
    }

    /// `tracker status`.
    pub fn status(&self) -> Result<Status> {
        ask(&self.socket, &["status"])
    }

    /// `tracker listeners`. What comes from the census may be half a second old; see [`Self::counted_listeners`].
    pub fn listeners(&self) -> Result<Listeners> {
        ask(&self.socket, &["listeners"])
    }

    /// `tracker states`. What comes from the census may be half a second old; see [`Self::counts`].
    pub fn states(&self) -> Result<States> {
        ask(&self.socket, &["states"])
    }

    /// `tracker listeners` with a census taken after this call began.
    pub fn counted_listeners(&self) -> Result<Listeners> {
        after_census(|| self.listeners(), |answer| answer.census_at)
    }

    /// Sockets of a family by state, those that are not zero, as [`crate::ss::count`] has them, by a census taken after
    /// this call began.
    pub fn counts(&self, family: Family) -> Result<Counts> {
        let mut states = after_census(|| self.states(), |answer| answer.census_at)?.states.context("no census yet")?;
        let mut families = states.remove(&self.namespace.inode()).context("nothing of the daemon's own namespace")?;
        let counts = families.remove(family.name()).context("a family is missing")?;
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// Transitions of the sockets of a family, those that are not zero.
    pub fn transitions(&self, family: Family) -> Result<BTreeMap<String, u64>> {
        let mut states = self.states()?.transitions;
        let mut families = states.remove(&self.namespace.inode()).context("nothing of the daemon's own namespace")?;
        families.remove(family.name()).context("a family is missing")
    }

    /// A path of its web server. The connection is one more in the namespace, over loopback.
    pub fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.namespace, self.web(), path)
    }

    /// A scrape that rests on a snapshot taken after this call began; scrapes show the last one, which is up to a
    /// second old.
    pub fn metrics(&self) -> Result<Scrape> {
        let now = Timestamp::now().as_duration().as_secs_f64();
        self.metrics_when(|scrape| scrape.sum("tracker_snapshot_timestamp_seconds", &[]) > now)
    }

    /// A scrape that rests also on a census taken after this call began, without a command that would ask for one.
    pub fn metrics_after_census(&self) -> Result<Scrape> {
        let now = Timestamp::now().as_duration().as_secs_f64();
        self.metrics_when(|scrape| scrape.sum("tracker_census_timestamp_seconds", &[]) > now)
    }

    fn metrics_when(&self, new: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
        let start = Instant::now();
        loop {
            let answer = self.get("/metrics")?;
            ensure!(answer.status == 200, "/metrics answers {}: {}", answer.status, answer.body);
            let scrape = Scrape::parse(answer.body)?;
            if new(&scrape) {
                return Ok(scrape);
            }
            ensure!(start.elapsed() < SNAPSHOT, "no new snapshot within {SNAPSHOT:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Stops it by a signal and checks that it goes well and leaves nothing.
    pub fn stop(mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        let status = self.process.wait(STOP)?;
        ensure!(status.success(), "tracker ended with {status} on {signal}:\n{}", self.log());
        ensure!(!fs::exists(&self.socket)?, "{} is left", self.socket.display());
        bpf::ensure_nothing_left(self.namespace)
    }

    /// Kills it and checks that nothing is left in the kernel.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill();
        bpf::ensure_nothing_left(self.namespace)
    }
}

/// Asks until the answer rests on a census that was taken after this call began.
fn after_census<T>(ask: impl Fn() -> Result<T>, census_at: impl Fn(&T) -> Option<Timestamp>) -> Result<T> {
    let now = Timestamp::now();
    loop {
        let answer = ask()?;
        if census_at(&answer).is_some_and(|taken| taken > now) {
            return Ok(answer);
        }
        let waited = Timestamp::now().duration_since(now).unsigned_abs();
        ensure!(waited < CENSUS, "no census within {CENSUS:?}, although its figures were asked for");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The listener at an address, if it is among them.
#[must_use]
pub fn find(listeners: Listeners, address: SocketAddr) -> Option<Listener> {
    let found = |listener: &Listener| listener.port == address.port() && listener.address == address.ip();
    listeners.listeners.into_iter().find(found)
}

/// Runs a command of tracker against a socket and reads its JSON.
fn ask<T: DeserializeOwned>(socket: &Path, words: &[&str]) -> Result<T> {
    let mut command = Command::new(binary()?);
    without_settings(&mut command).env("TRACKER_API_SOCKET", socket).args(words).args(["-o", "json"]);
    let text = command::stdout_of(&mut command)?;
    serde_json::from_str(&text).with_context(|| format!("{words:?} answers what is not in the contract: {text}"))
}

/// Keeps the caller's own settings of tracker from a command.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TRACKER_")) {
        command.env_remove(name);
    }
    command
}
