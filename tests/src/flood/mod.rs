//! Floods: frames of our own, from sources of our own, at exact times and in exact numbers.
//!
//! Answers to spoofed sources go by the server's default route to the client's namespace, which holds none of them and
//! does not forward: they end there, without a reset and without ICMP.
//!
//! Here belongs what sends and counts frames. Connections by connect(2) are `load_clients`; frames that are meant to be
//! judged one by one are [`crate::frames`].

mod batch;
mod pace;
mod sources;
mod template;

use std::{
    net::SocketAddr,
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

pub use pace::Pace;
pub use sources::Sources;

use crate::{namespace::Namespace, packet_socket::PacketSocket, segment::Route};
use sources::Draw;
use template::Template;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SYN.
    Syn,
    /// An ACK that belongs to no connection.
    Ack,
    /// A RST that belongs to no connection.
    Rst,
}

/// Frames to be sent.
#[derive(Clone, Debug)]
pub struct Flood {
    /// What is sent.
    pub kind: Kind,
    /// Where to; its port is the first of `ports`.
    pub target: SocketAddr,
    /// To how many ports from that of `target` on, one after the other and from the first again.
    pub ports: u16,
    /// From where.
    pub sources: Sources,
    /// When.
    pub pace: Pace,
    /// For how long, at most.
    pub duration: Duration,
    /// How many, at most.
    pub frames: u64,
}

impl Flood {
    /// SYNs to one port for some time.
    #[must_use]
    pub fn syns(target: SocketAddr, sources: Sources, pace: Pace, duration: Duration) -> Self {
        Self { kind: Kind::Syn, target, ports: 1, sources, pace, duration, frames: u64::MAX }
    }

    /// Starts it, from inside a namespace.
    pub fn start(self, namespace: &Namespace, route: Route<'_>) -> Result<Running> {
        let socket = PacketSocket::flooder(namespace, &route.from.device)?;
        let template = Template::new(route, self.kind, self.target);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || self.send(&socket, &template, &shared))
            .context("start a flood")?;
        Ok(Running { state, thread: Some(thread) })
    }

    fn send(&self, socket: &PacketSocket, template: &Template, state: &State) -> Result<Sent> {
        let mut draw = Draw::new(&self.sources);
        let mut random = fastrand::Rng::new();
        let mut buffer = vec![0; batch::FRAMES * template.len()];
        let (start, wall) = (Instant::now(), Timestamp::now());
        let mut sent = Sent { frames: 0, distinct: 0, start: wall, track: Vec::new() };
        let first = *state.first.get_or_init(|| start);
        while !state.stopping.load(Ordering::Relaxed) {
            let now = first.elapsed();
            let due = self.pace.due(sent.frames, now, batch::FRAMES).min(self.left(sent.frames, now));
            if due == 0 {
                if self.is_over(sent.frames, now) {
                    break;
                }
                thread::sleep(self.pace.pause(sent.frames, now).min(self.duration.saturating_sub(now)));
                continue;
            }
            for (frame, number) in buffer.chunks_exact_mut(template.len()).take(due).zip(sent.frames..) {
                let port = self.target.port() + u16::try_from(number % u64::from(self.ports)).expect("a port");
                template.write(frame, draw.next(), random.u16(1_024..), port, random.u32(..));
            }
            batch::send(socket, &buffer[..due * template.len()], template.len())?;
            sent.frames += u64::try_from(due)?;
            sent.distinct = draw.distinct();
            sent.mark(first.elapsed());
        }
        Ok(sent)
    }

    fn left(&self, frames: u64, now: Duration) -> usize {
        if self.is_over(frames, now) { 0 } else { usize::try_from(self.frames - frames).unwrap_or(usize::MAX) }
    }

    fn is_over(&self, frames: u64, now: Duration) -> bool {
        frames >= self.frames || now >= self.duration
    }
}

#[derive(Debug, Default)]
struct State {
    stopping: AtomicBool,
    first: OnceLock<Instant>,
}

/// A flood that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    state: Arc<State>,
    thread: Option<JoinHandle<Result<Sent>>>,
}

impl Running {
    /// When it began to send, which it may not yet have.
    #[must_use]
    pub fn first(&self) -> Option<Instant> {
        self.state.first.get().copied()
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until its time is over.
    pub fn wait(mut self) -> Result<Sent> {
        let thread = self.thread.take().context("waited for already")?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Ends it now.
    pub fn stop(self) -> Result<Sent> {
        self.state.stopping.store(true, Ordering::Relaxed);
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("lab: a flood broke: {error:#}");
        }
    }
}

/// What a flood has sent. All of it has left, and on veth arrived, when this is there.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Distinct sources of them.
    pub distinct: u64,
    /// When the first was sent.
    pub start: Timestamp,
    track: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    frames: u64,
    distinct: u64,
}

impl Sent {
    /// How close marks stand on the track: what is asked for between two is interpolated.
    const STEP: Duration = Duration::from_millis(1);

    fn mark(&mut self, at: Duration) {
        let mark = Mark { at, frames: self.frames, distinct: self.distinct };
        match self.track.as_mut_slice() {
            [.., before, last] if last.at < before.at + Self::STEP => *last = mark,
            _ => self.track.push(mark),
        }
    }

    /// When the last was sent.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.start + self.track.last().map_or(Duration::ZERO, |mark| mark.at)
    }

    /// Frames sent until a moment.
    #[must_use]
    pub fn frames_at(&self, moment: Timestamp) -> f64 {
        self.at(moment, |mark| mark.frames)
    }

    /// Distinct sources until a moment.
    #[must_use]
    pub fn distinct_at(&self, moment: Timestamp) -> f64 {
        self.at(moment, |mark| mark.distinct)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn at(&self, moment: Timestamp, value: impl Fn(&Mark) -> u64) -> f64 {
        let at = Duration::try_from(moment.duration_since(self.start)).unwrap_or_default();
        let next = self.track.partition_point(|mark| mark.at <= at);
        let value = |index: usize| self.track.get(index).map(|mark| (mark.at.as_secs_f64(), value(mark) as f64));
        match (next.checked_sub(1).and_then(value), value(next)) {
            (Some((before, low)), Some((after, high))) => {
                low + (high - low) * (at.as_secs_f64() - before) / (after - before).max(1e-9)
            }
            (Some((_, last)), None) => last,
            (None, _) => 0.0,
        }
    }
}
