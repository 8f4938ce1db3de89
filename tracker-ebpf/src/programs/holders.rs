//! Which process holds which socket: every descriptor of every process, by `bpf_iter/task_file`.
//!
//! Where `/proc/PID/fd` takes a system call for each descriptor, this takes some tens of nanoseconds. It sees the tasks
//! of the pid namespace of the thread that created the iterator, and one thread for all that share their files.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::file,
    helpers::{bpf_jiffies64, bpf_probe_read_kernel, generated::bpf_sock_from_file},
    macros::map,
    maps::{Array, HashMap},
};
use tracker_common::{
    counters::Loss,
    limits,
    ports::{HELD_CLOSE_WAIT, HELD_FIN_WAIT2, HELD_RANGES, HELD_UDP, Holder, HolderKey, PortPass},
    state::{CLOSE, CLOSE_WAIT, FIN_WAIT2},
};

use crate::{
    counted_map,
    fields::{self, IPPROTO_TCP, IPPROTO_UDP, Memory as _, Probed, Typed},
    ports, ranges,
};

#[map]
static HOLDERS: HashMap<HolderKey, Holder> = HashMap::with_max_entries(limits::HOLDERS, 0);

#[map]
static LEAKS: HashMap<HolderKey, Holder> = HashMap::with_max_entries(limits::LEAKS, 0);

/// The last socket that was visited, and its process: descriptors 0, 1 and 2 of a service are often one socket.
#[map]
static HOLDERS_LAST: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct IteratorContext {
    meta: *const u8,
    task: *const u8,
    descriptor: u32,
    file: *mut file,
}

/// What an iterator over files was called with: its own state, a task and a file, either of which may be null. Each is
/// read once, so that the verifier sees the check for null on the very value that is used.
///
/// # Safety
/// `ctx` is the context of such an iterator.
#[inline(always)]
pub(crate) unsafe fn context(ctx: *mut c_void) -> (*const u8, *const u8, *mut file) {
    let ctx = ctx.cast::<IteratorContext>();
    // SAFETY: the caller's `ctx`.
    unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).task).read_volatile(),
            (&raw const (*ctx).file).read_volatile(),
        )
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn tracker_holders(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over the files of tasks.
    let (_, task, file) = unsafe { context(ctx) };
    // SAFETY: the kernel holds references to the task and the file during this call.
    unsafe {
        if let Some(socket) = socket_of(task, file) {
            visit(task, socket);
        }
    }
    0
}

/// The `sock` behind a file that a task has open, if it is a socket.
///
/// # Safety
/// `task` and `file` are what [`context`] returned.
#[inline(always)]
pub(crate) unsafe fn socket_of(task: *const u8, file: *mut file) -> Option<*const u8> {
    if task.is_null() || file.is_null() {
        return None;
    }
    // SAFETY: the caller's `file`; the helper returns null for one that is not a socket's.
    let socket: *const u8 = unsafe { bpf_sock_from_file(file) }.cast();
    if socket.is_null() {
        return None;
    }
    // SAFETY: a `struct socket`.
    let sock: *const u8 = unsafe { Typed::read(socket, &fields::OFF_SOCKET_SK) };
    if sock.is_null() { None } else { Some(sock) }
}

/// Counts a socket for the process that holds it.
///
/// # Safety
/// `task` is a `task_struct`, `socket` a `sock`.
#[inline(always)]
unsafe fn visit(task: *const u8, socket: *const u8) {
    // SAFETY: the caller's `task` and `socket`.
    unsafe {
        let Some(family) = fields::family::<Typed>(socket) else { return };
        let protocol = Typed::read::<u16>(socket, &fields::OFF_PROTOCOL);
        let Some(pass) = ports::pass() else { return };
        if fields::netns::<Typed>(socket) != pass.netns {
            return;
        }
        let pid = Typed::read::<u32>(task, &fields::OFF_TGID);
        if again(socket, pid) {
            return;
        }
        let eligible = pass.eligible.contains(Typed::read(socket, &fields::OFF_NUM));
        if protocol == IPPROTO_UDP {
            if eligible {
                add(&HOLDERS, task, HolderKey { what: HELD_UDP, pid }, 0);
            }
            return;
        }
        if protocol != IPPROTO_TCP {
            return;
        }
        leak(task, socket, pid, pass);
        if Typed::read::<u8>(socket, &fields::OFF_STATE) == CLOSE {
            if eligible {
                ports::idle(Typed::read(socket, &fields::OFF_NUM));
            }
            return;
        }
        if eligible {
            let place = ports::find(&ports::tuple(socket, family), pass.generation, false);
            if place != ports::NONE {
                connected(task, socket, pid, pass, place);
            }
        }
    }
}

/// Counts a socket for its tuple, and for the range of it in which its port lies.
///
/// # Safety
/// `task` is a `task_struct`, `socket` a `sock`.
#[inline(always)]
unsafe fn connected(task: *const u8, socket: *const u8, pid: u32, pass: &PortPass, place: u32) {
    // SAFETY: the caller's `task` and `socket`.
    unsafe {
        if ports::sockets(place) >= pass.holders_from {
            add(&HOLDERS, task, HolderKey { what: place, pid }, 0);
        }
        if let Some(entry) = ports::at(place).filter(|entry| entry.ranges != 0)
            && let Some(index) = ranges::containing(entry, Typed::read(socket, &fields::OFF_NUM))
        {
            add(&HOLDERS, task, HolderKey { what: HELD_RANGES + index, pid }, 0);
        }
    }
}

/// Whether this is the socket and the process of the last call.
///
/// # Safety
/// `socket` is a `sock`.
#[inline(always)]
unsafe fn again(socket: *const u8, pid: u32) -> bool {
    let Some(last) = HOLDERS_LAST.get_ptr_mut(0) else { return false };
    // SAFETY: an entry of a map, and one pass runs at a time; the caller's `socket`.
    let (last, this) = unsafe { (&mut *last, [fields::inode(socket), u64::from(pid)]) };
    let same = *last == this;
    *last = this;
    same
}

/// Counts a socket whose peer has been silent for long, in a state that only the process can end.
///
/// # Safety
/// `task` is a `task_struct`, `socket` a `sock` of TCP.
#[inline(always)]
unsafe fn leak(task: *const u8, socket: *const u8, pid: u32, pass: &PortPass) {
    // SAFETY: the caller's `task` and `socket`, which is a `tcp_sock`; read by probes, as the verifier does not know
    // that.
    unsafe {
        let what = match Typed::read::<u8>(socket, &fields::OFF_STATE) {
            CLOSE_WAIT => HELD_CLOSE_WAIT,
            FIN_WAIT2 => HELD_FIN_WAIT2,
            _ => return,
        };
        let heard: u32 = Probed::read(socket, &fields::OFF_RCV_TSTAMP);
        let quiet = (bpf_jiffies64() as u32).wrapping_sub(heard);
        if pass.quiet != 0 && quiet >= pass.quiet {
            add(&LEAKS, task, HolderKey { what, pid }, quiet);
        }
    }
}

/// Counts a socket for a process.
///
/// # Safety
/// `task` is a `task_struct`.
#[inline(always)]
unsafe fn add(table: &HashMap<HolderKey, Holder>, task: *const u8, key: HolderKey, quiet: u32) {
    // SAFETY: the caller's `task`.
    let first = || Holder { comm: unsafe { process_name(task) }, ..Holder::default() };
    let Some(holder) = counted_map::entry(table, &key, Loss::HolderTableFull, first) else { return };
    // SAFETY: an entry of a map; one pass runs at a time.
    let holder = unsafe { &mut *holder };
    holder.sockets += 1;
    if holder.quietest < quiet {
        holder.quietest = quiet;
    }
}

/// Name of the process of a task, which is not that of each of its threads.
///
/// # Safety
/// `task` is a `task_struct`.
#[inline(always)]
pub(crate) unsafe fn process_name(task: *const u8) -> [u8; 16] {
    // SAFETY: the caller's `task`.
    unsafe {
        let leader: *const u8 = Typed::read(task, &fields::OFF_LEADER);
        bpf_probe_read_kernel(leader.add(fields::OFF_COMM.load() as usize).cast::<[u8; 16]>()).unwrap_or_default()
    }
}
