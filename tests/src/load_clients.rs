//! Many real clients on one thread: connections by connect(2), each at its time and from an address of its own.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{flood::Pace, namespace::Namespace};

/// What a client does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Asks for `/`, reads the answer, and lets the server close.
    Request,
    /// Resets it at once, as health checks of load balancers do.
    Reset,
    /// Resets it before it acknowledges the SYN-ACK: a health check that is content with half a handshake.
    Probe,
    /// As [`Self::Request`], but says nothing for this long first, as browsers that connect ahead of time do.
    Late(Duration),
    /// Keeps it for this long and says nothing.
    Hold(Duration),
}

/// What load clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it connects to, in turn.
    pub targets: Vec<SocketAddr>,
    /// From which addresses, in turn; the kernel chooses when there are none.
    pub sources: Vec<IpAddr>,
    /// When each client begins.
    pub pace: Pace,
    /// What it does.
    pub behaviour: Behaviour,
    /// How long it waits, for all of it.
    pub patience: Duration,
    /// How many there may be at once: beyond it they begin later.
    pub at_once: usize,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls of `connect()`.
    pub attempted: u64,
    /// Those that were established, as the client sees it.
    pub established: u64,
    /// Those that did all that they came for.
    pub done: u64,
    /// Others, by name of the error.
    pub failed: BTreeMap<String, u64>,
}

impl Seen {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.established += other.established;
        self.done += other.done;
        for (name, count) in &other.failed {
            *self.failed.entry(name.clone()).or_default() += count;
        }
    }
}

/// Load clients that go on. Dropping this ends them.
#[derive(Debug)]
pub struct Running {
    state: Arc<State>,
    thread: Option<JoinHandle<Result<Seen>>>,
}

#[derive(Debug, Default)]
struct State {
    stopping: AtomicBool,
    attempted: AtomicU64,
}

impl Plan {
    /// Requests at a steady rate.
    #[must_use]
    pub fn requests(targets: Vec<SocketAddr>, sources: Vec<IpAddr>, rate: f64) -> Self {
        let patience = Duration::from_secs(3);
        Self { targets, sources, pace: Pace::Steady(rate), behaviour: Behaviour::Request, patience, at_once: 4_000 }
    }

    /// Starts it, in a namespace.
    pub fn start(self, namespace: &Namespace) -> Result<Running> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let socket_maker = namespace.on_thread("clients", move || Load::new(self, &shared)?.run(&shared));
        Ok(Running { state, thread: Some(socket_maker.context("start load clients")?) })
    }
}

impl Running {
    /// Connections begun so far.
    #[must_use]
    pub fn attempted(&self) -> u64 {
        self.state.attempted.load(Ordering::Relaxed)
    }

    /// Begins no more, and waits for those that have begun.
    pub fn stop(mut self) -> Result<Seen> {
        self.state.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped already")?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("lab: load clients failed: {error:#}");
        }
    }
}

struct Load {
    plan: Plan,
    epoll: Epoll,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    deadlines: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    open: usize,
    seen: Seen,
}

struct Client {
    stream: TcpStream,
    number: u64,
    established: bool,
    /// Whether it has spoken.
    asked: bool,
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";

impl Load {
    fn new(plan: Plan, _state: &State) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (clients, free, deadlines) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Ok(Self { plan, epoll, clients, free, deadlines, open: 0, seen: Seen::default() })
    }

    fn run(mut self, state: &State) -> Result<Seen> {
        let start = Instant::now();
        let mut events = vec![EpollEvent::empty(); 512];
        loop {
            let stopping = state.stopping.load(Ordering::Relaxed);
            if stopping && self.open == 0 {
                return Ok(self.seen);
            }
            let room = self.plan.at_once.saturating_sub(self.open);
            let due = self.plan.pace.due(self.seen.attempted, start.elapsed(), room.min(256));
            for _ in 0..if stopping { 0 } else { due } {
                self.begin()?;
            }
            state.attempted.store(self.seen.attempted, Ordering::Relaxed);
            let idle =
                if due > 0 { Duration::ZERO } else { self.plan.pace.pause(self.seen.attempted, start.elapsed()) };
            let timeout = EpollTimeout::try_from(idle.min(Duration::from_millis(10)))?;
            let ready = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                result => result?,
            };
            for event in &events[..ready] {
                self.step(usize::try_from(event.data())?);
            }
            self.expire();
        }
    }

    fn begin(&mut self) -> Result<()> {
        let number = self.seen.attempted;
        self.seen.attempted += 1;
        let pick = |count: usize| usize::try_from(number).expect("64 bits") % count;
        let target = self.plan.targets[pick(self.plan.targets.len())];
        let source = (!self.plan.sources.is_empty()).then(|| self.plan.sources[pick(self.plan.sources.len())]);
        let socket = match connect(target, source, self.plan.behaviour == Behaviour::Probe) {
            Ok(socket) => socket,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        let client = Client { stream: socket.into(), number, established: false, asked: false };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&client.stream, EpollEvent::new(interest, u64::try_from(slot)?))?;
        self.clients[slot] = Some(client);
        self.deadlines.push(Reverse((Instant::now() + self.lifetime(), slot, number)));
        self.open += 1;
        Ok(())
    }

    fn lifetime(&self) -> Duration {
        match self.plan.behaviour {
            Behaviour::Hold(time) | Behaviour::Late(time) => time,
            _ => self.plan.patience,
        }
    }

    /// Goes on with a client whose socket is ready.
    fn step(&mut self, slot: usize) {
        let behaviour = self.plan.behaviour;
        let Some(client) = &mut self.clients[slot] else { return };
        match client.advance(behaviour, &mut self.seen.established) {
            Ok(false) => {}
            Ok(true) => {
                self.seen.done += 1;
                self.close(slot);
            }
            Err(error) => {
                self.fail(&error);
                self.close(slot);
            }
        }
    }

    /// Ends the clients whose time is over.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((deadline, slot, number))) = self.deadlines.peek().copied() {
            if deadline > now {
                return;
            }
            self.deadlines.pop();
            let Some(client) = self.clients[slot].as_ref().filter(|client| client.number == number) else { continue };
            let (established, asked) = (client.established, client.asked);
            if let (Behaviour::Late(_), true, false) = (self.plan.behaviour, established, asked) {
                self.ask(slot);
                self.deadlines.push(Reverse((now + self.plan.patience, slot, number)));
                continue;
            }
            if established && matches!(self.plan.behaviour, Behaviour::Hold(_)) {
                self.seen.done += 1;
            } else {
                self.fail(&io::Error::from(ErrorKind::TimedOut));
            }
            self.close(slot);
        }
    }

    /// A client speaks that has waited.
    fn ask(&mut self, slot: usize) {
        let Some(client) = &mut self.clients[slot] else { return };
        client.asked = true;
        if let Err(error) = client.stream.write_all(REQUEST) {
            self.fail(&error);
            self.close(slot);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let name = error
            .raw_os_error()
            .map_or_else(|| error.kind().to_string(), |number| format!("{:?}", Errno::from_raw(number)));
        *self.seen.failed.entry(name).or_default() += 1;
    }

    fn close(&mut self, slot: usize) {
        self.clients[slot] = None;
        self.free.push(slot);
        self.open -= 1;
    }
}

impl Client {
    /// Does what its socket allows; whether all is done.
    fn advance(&mut self, behaviour: Behaviour, established: &mut u64) -> io::Result<bool> {
        if !self.established {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            if let Err(error) = self.stream.peer_addr() {
                // Not yet: the socket is ready once without a reason when it is new.
                return if error.kind() == ErrorKind::NotConnected { Ok(false) } else { Err(error) };
            }
            self.established = true;
            *established += 1;
            match behaviour {
                Behaviour::Request => self.stream.write_all(REQUEST)?,
                Behaviour::Reset | Behaviour::Probe => {
                    SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(true);
                }
                Behaviour::Hold(_) | Behaviour::Late(_) => {}
            }
        }
        let mut buffer = [0; 1_024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) if behaviour == Behaviour::Request || self.asked => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Begins to connect, in the namespace of the calling thread. One that `probes` leaves the SYN-ACK without an ACK for
/// the usual 40 ms.
fn connect(target: SocketAddr, source: Option<IpAddr>, probes: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if probes {
        socket.set_tcp_quickack(false)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}
