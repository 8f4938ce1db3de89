//! Processes of the lab's with names and users of their own: a case says what they do with sockets, and then checks
//! whom tracker names. What a case expects belongs to the case.

mod calls;
mod protocol;
mod serve;
mod sockets;

use std::{
    cell::RefCell,
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

pub use protocol::{Call, Calls, Keep, Options, SocketId, Source, Tally};
pub use serve::serve;

use crate::namespace::Namespace;
use protocol::{Ask, Reply};

/// What [`Peer::bind`] and the like answer when the call succeeded; otherwise it is the name of the error.
pub const OK: &str = "ok";

/// A process that follows orders. Dropping it ends it, and closes all its sockets.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Peer {
    /// Starts one in a namespace, under a name of up to 15 bytes.
    pub fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        Self::launch(namespace, name, None)
    }

    /// Starts one that belongs to a user.
    pub fn start_as(namespace: &Namespace, name: &str, user: u32) -> Result<Self> {
        Self::launch(namespace, name, Some(user))
    }

    fn launch(namespace: &Namespace, name: &str, user: Option<u32>) -> Result<Self> {
        let mut command = namespace.command(binary()?);
        command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = user {
            command.arg("--user").arg(user.to_string());
        }
        let mut child = command.spawn().with_context(|| format!("start the peer {name}"))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let peer = Self { name: name.to_owned(), child, pipes: RefCell::new((stdin, stdout)) };
        // It answers when it has its name and its user.
        peer.progress()?;
        Ok(peer)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a socket.
    pub fn open(&self, options: &Options) -> Result<SocketId> {
        match self.ask(&Ask::Open(options.clone()))? {
            Reply::Socket(socket) => Ok(socket),
            other => bail!("{}: socket(): {other:?}", self.name),
        }
    }

    /// `bind()`: [`OK`] or the name of the error.
    pub fn bind(&self, socket: SocketId, address: SocketAddr) -> Result<String> {
        self.outcome(&Ask::Bind(socket, address))
    }

    /// `listen()`: [`OK`] or the name of the error.
    pub fn listen(&self, socket: SocketId) -> Result<String> {
        self.outcome(&Ask::Listen(socket))
    }

    /// `connect()`: [`OK`] or the name of the error.
    pub fn connect(&self, socket: SocketId, address: SocketAddr) -> Result<String> {
        self.outcome(&Ask::Connect(socket, address))
    }

    /// `accept()`.
    pub fn accept(&self, socket: SocketId) -> Result<SocketId> {
        match self.ask(&Ask::Accept(socket))? {
            Reply::Socket(socket) => Ok(socket),
            other => bail!("{}: accept(): {other:?}", self.name),
        }
    }

    /// `shutdown()` of the side that writes.
    pub fn shutdown(&self, socket: SocketId) -> Result<()> {
        self.done(&Ask::Shutdown(socket))
    }

    /// `close()`.
    pub fn close(&self, socket: SocketId) -> Result<()> {
        self.done(&Ask::Close(socket))
    }

    /// `getsockname()`.
    pub fn local(&self, socket: SocketId) -> Result<SocketAddr> {
        match self.ask(&Ask::Local(socket))? {
            Reply::Address(address) => Ok(address),
            other => bail!("{}: getsockname(): {other:?}", self.name),
        }
    }

    /// Makes calls and waits for all to return.
    pub fn call(&self, calls: &Calls) -> Result<Tally> {
        self.tally(&Ask::Call(calls.clone()))
    }

    /// Makes one call that is held: [`OK`] or the name of the error.
    pub fn call_once(&self, target: SocketAddr) -> Result<String> {
        self.once(&Calls::held(target, 1))
    }

    /// Makes one call: [`OK`] or the name of the error.
    pub fn once(&self, calls: &Calls) -> Result<String> {
        let tally = self.call(&Calls { count: 1, ..calls.clone() })?;
        Ok(tally.failed.into_keys().next().unwrap_or_else(|| OK.to_owned()))
    }

    /// Begins to make calls.
    pub fn begin(&self, calls: &Calls) -> Result<()> {
        self.done(&Ask::Begin(calls.clone()))
    }

    /// What has become of the calls that were begun last.
    pub fn progress(&self) -> Result<Tally> {
        self.tally(&Ask::Progress)
    }

    /// Waits until the calls that were begun last have all returned.
    pub fn finish(&self, patience: Duration) -> Result<Tally> {
        let deadline = Instant::now() + patience;
        loop {
            let tally = self.progress()?;
            if tally.done {
                return Ok(tally);
            }
            ensure!(Instant::now() < deadline, "{} still calls after {patience:?}: {tally:?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Each of the calls that were begun last.
    pub fn log(&self) -> Result<Vec<Call>> {
        match self.ask(&Ask::Log)? {
            Reply::Log(calls) => Ok(calls),
            other => bail!("{}: its log: {other:?}", self.name),
        }
    }

    fn outcome(&self, ask: &Ask) -> Result<String> {
        match self.ask(ask)? {
            Reply::Done => Ok(OK.to_owned()),
            Reply::Failed(error) => Ok(error),
            other => bail!("{}: {ask:?}: {other:?}", self.name),
        }
    }

    fn done(&self, ask: &Ask) -> Result<()> {
        let outcome = self.outcome(ask)?;
        ensure!(outcome == OK, "{}: {ask:?}: {outcome}", self.name);
        Ok(())
    }

    fn tally(&self, ask: &Ask) -> Result<Tally> {
        match self.ask(ask)? {
            Reply::Tally(tally) => Ok(tally),
            other => bail!("{}: {ask:?}: {other:?}", self.name),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Reply> {
        let mut pipes = self.pipes.borrow_mut();
        let (stdin, stdout) = &mut *pipes;
        let gone = || format!("the peer {} is gone", self.name);
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        stdin.write_all(line.as_bytes()).with_context(gone)?;
        line.clear();
        ensure!(stdout.read_line(&mut line).with_context(gone)? > 0, gone());
        serde_json::from_str(&line).with_context(|| format!("{} answers {line}", self.name))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary of the peers, beside the tests.
fn binary() -> Result<PathBuf> {
    let test = env::current_exe().context("where the tests are")?;
    let mut beside = test.ancestors().skip(1).take(2).map(|directory| directory.join("tracker-peer"));
    beside.find(|path| path.exists()).context("no tracker-peer beside the tests: cargo builds it with them")
}
