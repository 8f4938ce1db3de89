//! The listening sockets, each by itself: the queues of a `SO_REUSEPORT` group's sockets, which its sum hides.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    time::Instant,
};

use aya::{Ebpf, programs::Iter};
use tracker_common::{
    layout::Sum as _,
    listener::{ListenerKey, ListenerQueues, ListeningSocket},
    names,
};

use super::{error::KernelError, iterator, object};

/// Commands and the attach type of bpf(2).
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// The listeners as the last walk over the listening sockets found them.
pub struct Listening {
    /// None where the kernel has no such walk; why not was logged.
    walk: Option<Walk>,
    groups: HashMap<ListenerKey, Group>,
    /// When that was.
    pub at: Instant,
}

/// The sockets of one listener.
#[derive(Default)]
pub struct Group {
    /// Their queues, added up; half-open requests and connections are not known.
    pub queues: ListenerQueues,
    /// Those whose accept queue is full.
    pub full: u32,
    /// Requests that its sockets dropped while their accept queue was full, since it is a group.
    pub dropped_full: u64,
    /// The socket whose accept queue is fullest.
    pub worst: ListeningSocket,
    /// Inodes of the sockets of a group that are older than the daemon.
    pub older: Vec<u64>,
    /// What each socket of a group had dropped, by inode.
    drops: HashMap<u64, u32>,
}

impl Listening {
    /// Loads the walk, if the kernel has it.
    pub fn load(object: &mut Ebpf) -> Self {
        let walk = Walk::load(object).inspect_err(|error| {
            tracing::info!("the sockets of SO_REUSEPORT groups are not read each by itself: {error}");
        });
        Self { walk: walk.ok(), groups: HashMap::new(), at: Instant::now() }
    }

    /// Whether there is a walk.
    pub fn is_available(&self) -> bool {
        self.walk.is_some()
    }

    /// Walks over all listening sockets.
    pub fn read(&mut self) {
        let Some(walk) = &self.walk else { return };
        let before = std::mem::take(&mut self.groups);
        match walk.sockets() {
            Ok(sockets) => {
                self.at = Instant::now();
                self.groups = group(&sockets, &before);
            }
            Err(error) => {
                tracing::warn!("walk over the listening sockets: {error}");
                self.walk = None;
            }
        }
    }

    /// The sockets of a listener, if the walk found just as many as listen by the count of events: it may have come
    /// between two of them.
    pub fn group(&self, key: &ListenerKey, sockets: u64) -> Option<&Group> {
        self.groups.get(key).filter(|group| group.queues.sockets == sockets)
    }
}

/// Puts the sockets of each listener together.
fn group(sockets: &[ListeningSocket], before: &HashMap<ListenerKey, Group>) -> HashMap<ListenerKey, Group> {
    let mut groups: HashMap<ListenerKey, Group> = HashMap::new();
    for socket in sockets {
        groups.entry(socket.key).or_default().add(socket);
    }
    for (key, group) in groups.iter_mut().filter(|(_, group)| group.queues.sockets > 1) {
        group.dropped_full = before.get(key).map_or(0, |before| before.dropped_full);
    }
    for socket in sockets {
        if let Some(group) = groups.get_mut(&socket.key).filter(|group| group.queues.sockets > 1) {
            group.note(socket, before.get(&socket.key));
        }
    }
    groups
}

impl Group {
    fn add(&mut self, socket: &ListeningSocket) {
        self.full += u32::from(is_full(socket));
        if self.queues.sockets == 0 || is_worse(socket, &self.worst) {
            self.worst = *socket;
        }
        self.queues.add(&ListenerQueues {
            sockets: 1,
            syn_queue: socket.syn_queue,
            syn_queue_young: socket.syn_queue_young,
            accept_queue: socket.accept_queue,
            accept_queue_max: socket.accept_queue_max,
            drops: u64::from(socket.drops),
            defer_accept: u64::from(socket.defer_accept),
            ..ListenerQueues::default()
        });
    }

    /// Notes what is kept of each socket of a group.
    fn note(&mut self, socket: &ListeningSocket, before: Option<&Self>) {
        self.drops.insert(socket.inode, socket.drops);
        if socket.mark.pid == 0 {
            self.older.push(socket.inode);
        }
        if is_full(socket) {
            let before = before.and_then(|before| before.drops.get(&socket.inode)).copied();
            self.dropped_full += u64::from(socket.drops.saturating_sub(before.unwrap_or(socket.drops)));
        }
    }
}

/// Whether the next connection may be turned away (`sk_acceptq_is_full`: longer than its limit; a reading between an
/// accept and the next ACK sees one less).
const fn is_full(socket: &ListeningSocket) -> bool {
    socket.accept_queue > 0 && socket.accept_queue >= socket.accept_queue_max
}

/// Whether more of a socket's accept queue is taken than of another's.
fn is_worse(socket: &ListeningSocket, than: &ListeningSocket) -> bool {
    let [a, b] = [(socket, than), (than, socket)].map(|(one, other)| {
        // One more than the limit fits in.
        u64::from(one.accept_queue) * (u64::from(other.accept_queue_max) + 1)
    });
    a > b
}

/// The iterator over the marks of listening sockets. It belongs to no network namespace: it visits all.
struct Walk {
    link: OwnedFd,
}

impl Walk {
    fn load(object: &mut Ebpf) -> Result<Self, KernelError> {
        let name = names::PROGRAM_LISTENING;
        object::load_iterator(object, name)?;
        let map = object.map(names::LISTENING).ok_or(KernelError::NoSuchMap(names::LISTENING))?;
        let aya::maps::Map::SkStorage(map) = map else { return Err(KernelError::NoSuchMap(names::LISTENING)) };
        let map = map.fd().as_fd().as_raw_fd();
        let program: &mut Iter = object::program(object, name)?;
        let program = program.fd().map_err(|source| KernelError::Program { name, source })?.as_fd().as_raw_fd();
        let io = |source| KernelError::Io { what: format!("attach {name}"), source };
        Ok(Self { link: create_link(program, map).map_err(io)? })
    }

    fn sockets(&self) -> io::Result<Vec<ListeningSocket>> {
        iterator::records(&mut File::from(create_iterator(self.link.as_raw_fd())?))
    }
}

/// `bpf_attr.link_create` of an iterator.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_length: u32,
    padding: u32,
}

/// `bpf_attr.iter_create`.
#[repr(C)]
struct IterCreate {
    link: RawFd,
    flags: u32,
}

/// Attaches an iterator program to a map, which `Iter::attach` of aya has no argument for.
fn create_link(program: RawFd, map: RawFd) -> io::Result<OwnedFd> {
    // `bpf_iter_link_info`; its first member is `map.map_fd`.
    let info: [RawFd; 4] = [map, 0, 0, 0];
    let attributes = LinkCreate {
        program,
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: info.as_ptr().expose_provenance() as u64,
        info_length: u32::try_from(size_of_val(&info)).unwrap_or_default(),
        padding: 0,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// Makes an iterator of its link.
fn create_iterator(link: RawFd) -> io::Result<OwnedFd> {
    bpf(BPF_ITER_CREATE, &IterCreate { link, flags: 0 })
}

/// A command of bpf(2) that returns a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: both commands read `size_of::<T>()` bytes of attributes, and of what these point to what its length says;
    // both live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let descriptor = RawFd::try_from(result).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for the caller, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(port: u32, inode: u64, accept_queue: u32, drops: u32) -> ListeningSocket {
        let key = ListenerKey { port, ..ListenerKey::default() };
        ListeningSocket { inode, key, accept_queue, accept_queue_max: 8, drops, ..ListeningSocket::default() }
    }

    #[test]
    fn the_worst_of_a_group_is_found_and_the_sum_hides_it() {
        let sockets = [socket(80, 1, 0, 0), socket(80, 2, 9, 5), socket(80, 3, 2, 0), socket(81, 4, 1, 0)];
        let groups = group(&sockets, &HashMap::new());
        let web = &groups[&sockets[0].key];
        assert_eq!((web.queues.sockets, web.queues.accept_queue, web.queues.accept_queue_max), (3, 11, 24));
        assert_eq!((web.full, web.worst.inode, web.dropped_full), (1, 2, 0));
        assert_eq!((groups[&sockets[3].key].full, groups[&sockets[3].key].worst.inode), (0, 4));
    }

    #[test]
    fn what_a_full_socket_drops_is_summed_up() {
        let after = |before: &HashMap<_, _>, sockets: &[ListeningSocket]| group(sockets, before);
        let first = after(&HashMap::new(), &[socket(80, 1, 9, 100), socket(80, 2, 0, 50)]);
        let second = after(&first, &[socket(80, 1, 9, 130), socket(80, 2, 0, 70)]);
        let third = after(&second, &[socket(80, 1, 3, 140), socket(80, 2, 9, 75), socket(80, 3, 9, 1_000)]);
        let dropped = |groups: &HashMap<ListenerKey, Group>| groups.values().next().unwrap().dropped_full;
        assert_eq!([dropped(&first), dropped(&second), dropped(&third)], [0, 30, 35]);
    }

    #[test]
    fn a_short_queue_is_worse_than_a_long_one_when_it_is_fuller() {
        let of = |accept_queue, accept_queue_max| ListeningSocket {
            accept_queue,
            accept_queue_max,
            ..ListeningSocket::default()
        };
        assert!(is_worse(&of(9, 8), &of(100, 4096)));
        assert!(is_worse(&of(1, 0), &of(4, 8)) && !is_worse(&of(0, 0), &of(0, 8)));
    }
}
