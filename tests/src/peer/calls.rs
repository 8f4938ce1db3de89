//! The peer's own side: many calls of `connect()`, at a pace.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    net::{IpAddr, Shutdown, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use socket2::Socket;

use super::{
    protocol::{Call, Calls, Keep, Options, Tally},
    sockets::{connect, name_of, open},
};

/// All calls of this process.
#[derive(Default)]
pub(super) struct Callers {
    held: Vec<Socket>,
    begun: Arc<Mutex<Progress>>,
}

/// What has become of calls.
#[derive(Default)]
struct Progress {
    tally: Tally,
    log: Vec<Call>,
}

impl Callers {
    /// Makes calls.
    pub(super) fn call(&mut self, calls: &Calls) -> Tally {
        let progress = Mutex::default();
        self.held.extend(make(calls, &progress));
        progress.into_inner().unwrap_or_else(PoisonError::into_inner).tally
    }

    /// Begins to make them, on a thread that bears the process's name too.
    pub(super) fn begin(&mut self, calls: Calls) {
        let progress = Arc::new(Mutex::default());
        self.begun = Arc::clone(&progress);
        thread::spawn(move || {
            // They are held until the process ends.
            std::mem::forget(make(&calls, &progress));
        });
    }

    /// What has become of those that were begun last.
    pub(super) fn progress(&self) -> Tally {
        of(&self.begun).tally.clone()
    }

    /// Each of those.
    pub(super) fn log(&self) -> Vec<Call> {
        of(&self.begun).log.clone()
    }
}

fn of(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the calls; the answer is what is held.
fn make(calls: &Calls, progress: &Mutex<Progress>) -> Vec<Socket> {
    let (start, mut held) = (Instant::now(), Vec::new());
    let mut waiting: VecDeque<(Instant, Socket)> = VecDeque::new();
    for number in 0..calls.count {
        if let Some(rate) = calls.rate {
            wait_until(start + Duration::from_secs_f64(f64::from(number) / rate), &mut waiting);
        }
        let begun = now();
        let result = call(calls, number);
        let (port, error) = match &result {
            Ok((_, port)) => (*port, None),
            Err(error) => (0, Some(name_of(error))),
        };
        if let Ok((socket, _)) = result {
            match calls.keep {
                Keep::Open => held.push(socket),
                Keep::Close => close(&socket),
                Keep::Half => {
                    // Fails only when the server was quicker.
                    let _ = socket.shutdown(Shutdown::Write);
                    held.push(socket);
                }
                Keep::Milliseconds(time) => waiting.push_back((Instant::now() + Duration::from_millis(time), socket)),
            }
        }
        let ended = now();
        let mut progress = of(progress);
        progress.tally.attempted += 1;
        match &error {
            None => progress.tally.connected += 1,
            Some(error) => *progress.tally.failed.entry(error.clone()).or_default() += 1,
        }
        progress.log.push(Call { begun, ended, port, error });
    }
    if let Some((last, _)) = waiting.back() {
        wait_until(*last, &mut waiting);
    }
    of(progress).tally.done = true;
    held
}

/// One call: the socket, and its local port.
fn call(calls: &Calls, number: u32) -> io::Result<(Socket, u16)> {
    let target = successor(calls.target, number % calls.spread);
    let without_port = calls.source.is_some_and(|source| source.without_port);
    let options = Options {
        udp: calls.udp,
        ipv6: target.is_ipv6(),
        ipv6_only: calls.udp,
        without_port,
        nonblocking: calls.nonblocking,
        range: calls.range,
        ..Options::default()
    };
    let socket = open(&options)?;
    if let Some(source) = calls.source {
        socket.bind(&SocketAddr::new(source.address, 0).into())?;
    }
    connect(&socket, target)?;
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((socket, local.port()))
}

/// Closes a connection first, and waits for the server to do so too.
fn close(socket: &Socket) {
    // Both fail only when the server resets it.
    let _ = socket.shutdown(Shutdown::Write);
    let mut socket = socket;
    while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
}

/// The address this many after another, with the same port.
fn successor(address: SocketAddr, steps: u32) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + steps).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + u128::from(steps)).into()),
    };
    SocketAddr::new(ip, address.port())
}

/// Waits, and closes what is to be closed meanwhile.
fn wait_until(time: Instant, waiting: &mut VecDeque<(Instant, Socket)>) {
    loop {
        let now = Instant::now();
        while waiting.pop_front_if(|(end, _)| *end <= now).is_some() {}
        if now >= time {
            return;
        }
        let next = waiting.front().map_or(time, |(end, _)| time.min(*end));
        thread::sleep(next.saturating_duration_since(now));
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
