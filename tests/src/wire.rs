//! A cable of our own between two devices: it tags frames, delays and loses them, on kernels without VLAN devices and
//! netem too.

use std::{
    collections::VecDeque,
    os::fd::AsFd,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{namespace::Namespace, packet_socket::PacketSocket};

/// A VLAN tag: its kind and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `EtherType` of the tag.
    pub kind: u16,
    /// VLAN identifier.
    pub vlan: u16,
}

impl Tag {
    /// IEEE 802.1Q, the usual tag.
    pub const CUSTOMER: u16 = 0x8100;
    /// IEEE 802.1ad, the outer tag of `QinQ`.
    pub const SERVICE: u16 = 0x88a8;

    /// The name that ip-link(8) has for the kind.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        if self.kind == Self::SERVICE { "802.1ad" } else { "802.1Q" }
    }
}

/// What a wire does to frames.
#[derive(Clone, Debug, Default)]
pub struct WireOptions {
    /// Tags put on each frame from left to right, the outermost first. A Linux without a VLAN device for it takes a
    /// frame all the same when each tag's VLAN is 0: priority tags, IEEE 802.1Q 9.6.
    pub tags: Vec<Tag>,
    /// How long a frame from right to left is under way.
    pub delay: Duration,
    /// How long a frame from left to right is under way.
    pub delay_there: Duration,
    /// Share of the frames of each way that are lost, chosen at random.
    pub loss: f64,
}

/// A thread that carries frames between two devices. Dropping it ends the thread.
#[derive(Debug)]
pub struct Wire {
    state: Arc<State>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct State {
    stopping: AtomicBool,
    cut: AtomicBool,
}

/// Length of a `virtio_net_hdr`, and where in it the offset of the checksummed part stands.
const VNET_HEADER: usize = 10;
const CHECKSUM_START: usize = 6;
/// Bytes of the two Ethernet addresses, behind which tags stand.
const ADDRESSES: usize = 12;

impl Wire {
    /// Joins two devices of `namespace`.
    pub fn join(namespace: &Namespace, left: &str, right: &str, options: &WireOptions) -> Result<Self> {
        let left = PacketSocket::relay(namespace, left)?;
        let right = PacketSocket::relay(namespace, right)?;
        let state = Arc::new(State::default());
        let (shared, options) = (Arc::clone(&state), options.clone());
        let thread = thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || carry(&left, &right, &options, &shared))
            .context("start the wire")?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Loses every frame from now on, those under way included; or no longer. Holds within 20 ms.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("lab: the wire broke: {error:#}"),
            Some(Err(panic)) if !thread::panicking() => panic::resume_unwind(panic),
            _ => {}
        }
    }
}

fn carry(left: &PacketSocket, right: &PacketSocket, options: &WireOptions, state: &State) -> Result<()> {
    let tags = tag_bytes(&options.tags);
    let mut buffer = vec![0; 70_000];
    let mut there = Way { socket: right, delay: options.delay_there, frames: VecDeque::new() };
    let mut back = Way { socket: left, delay: options.delay, frames: VecDeque::new() };
    while !state.stopping.load(Ordering::Relaxed) {
        let cut = state.cut.load(Ordering::Relaxed);
        let mut idle = LOOK_UP;
        for way in [&mut there, &mut back] {
            idle = idle.min(way.deliver(cut)?);
        }
        let timeout = PollTimeout::try_from(idle)?;
        let mut ready = [PollFd::new(left.as_fd(), PollFlags::POLLIN), PollFd::new(right.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, timeout)?;
        let [from_left, from_right] = ready.map(|fd| fd.any().unwrap_or(false));
        let is_lost = || cut || (options.loss > 0.0 && fastrand::f64() < options.loss);
        if from_left {
            let frame = left.receive(&mut buffer)?;
            if !is_lost() {
                there.take(tagged(frame, &tags))?;
            }
        }
        if from_right {
            let frame = right.receive(&mut buffer)?;
            if !is_lost() {
                back.take(frame.to_vec())?;
            }
        }
    }
    Ok(())
}

/// How often the wire looks up, to see that it is time to stop.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Frames of one direction.
struct Way<'a> {
    socket: &'a PacketSocket,
    delay: Duration,
    frames: VecDeque<(Instant, Vec<u8>)>,
}

impl Way<'_> {
    fn take(&mut self, frame: Vec<u8>) -> Result<()> {
        if self.delay.is_zero() {
            return self.socket.send(&frame);
        }
        self.frames.push_back((Instant::now() + self.delay, frame));
        Ok(())
    }

    /// Delivers what is due, or loses all of it, and says how long nothing else is.
    fn deliver(&mut self, cut: bool) -> Result<Duration> {
        if cut {
            self.frames.clear();
        }
        let now = Instant::now();
        while let Some((_, frame)) = self.frames.pop_front_if(|(due, _)| *due <= now) {
            self.socket.send(&frame)?;
        }
        Ok(self.frames.front().map_or(LOOK_UP, |(due, _)| *due - now))
    }
}

/// The tags as they stand in a frame.
fn tag_bytes(tags: &[Tag]) -> Vec<u8> {
    tags.iter().flat_map(|tag| [tag.kind.to_be_bytes(), tag.vlan.to_be_bytes()]).flatten().collect()
}

/// The frame, with its `virtio_net_hdr`, with tags behind its addresses.
fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    let (head, rest) = frame.split_at(VNET_HEADER + ADDRESSES);
    let mut tagged = [head, tags, rest].concat();
    let needs_checksum = frame[0] & 1 != 0;
    if needs_checksum {
        let start = u16::from_ne_bytes([frame[CHECKSUM_START], frame[CHECKSUM_START + 1]]);
        let moved = start + u16::try_from(tags.len()).expect("a few tags");
        tagged[CHECKSUM_START..CHECKSUM_START + 2].copy_from_slice(&moved.to_ne_bytes());
    }
    tagged
}
