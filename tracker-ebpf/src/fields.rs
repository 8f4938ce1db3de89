//! Reading the fields of kernel structures, at offsets that the daemon takes from the running kernel's BTF.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_skc_to_tcp_sock},
};
use tracker_common::{listener::mapped, names::ABSENT};

/// Declares the globals that the daemon overrides at load; the verifier then sees constants.
macro_rules! globals {
    ($type:ty = $default:expr; $($name:ident),* $(,)?) => { $(
        #[unsafe(no_mangle)]
        pub(crate) static $name: Global<$type> = Global::new($default);
    )* };
}

globals! { u32 = ABSENT;
    OFF_FAMILY, OFF_STATE, OFF_SADDR, OFF_DADDR, OFF_NUM, OFF_DPORT, OFF_SADDR6, OFF_DADDR6, OFF_NET, OFF_IPV6ONLY,
    OFF_INUM, OFF_PROTOCOL, OFF_ERR, OFF_PACKETS_OUT, OFF_SHUTDOWN, OFF_UID, OFF_RX_IFINDEX, OFF_ACK_BACKLOG, OFF_MAX_ACK_BACKLOG, OFF_DROPS,
    OFF_SOCKET, OFF_CGROUP, OFF_CGROUP_KN, OFF_KN_ID, OFF_SPORT, OFF_QLEN, OFF_YOUNG, OFF_SRTT, OFF_TOTAL_RETRANS,
    OFF_RTO_STAMP, OFF_TW_SUBSTATE, OFF_RTO_TIME, OFF_INODE, OFF_BIND_BUCKET, OFF_FASTREUSE, OFF_FASTREUSEPORT, OFF_RCV_TSTAMP,
    OFF_TW_BUCKET, OFF_TW_EXPIRES, OFF_TW_STAMP, OFF_TW_ENTRY, OFF_SOCKET_SK, OFF_TGID, OFF_LEADER, OFF_COMM,
    OFF_REUSE, OFF_REUSEPORT, OFF_DEVICE, OFF_FILES, OFF_FDT, OFF_FD, OFF_PRIVATE,
}
globals! { u32 = 0; NETNS, ALL_NETNS, SAMPLE_MASK, IPV6ONLY_BIT, REUSE_BIT, REUSEPORT_BIT, SCATTER }
globals! { u64 = 0; HASH_KEY }

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// How memory of the kernel is read.
pub(crate) trait Memory {
    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    /// `base` points to a kernel structure that has a `T` at that offset.
    unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> T;

    /// The socket as a `tcp_sock`; null when it is none.
    fn tcp_sock(socket: *const u8) -> *const u8;
}

/// Plain loads, for programs whose pointers the verifier knows by BTF type.
pub(crate) struct Typed;

impl Memory for Typed {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
        // SAFETY: the caller's; the verifier checks the access against the BTF type of `base`. Volatile, so that
        // it stays one load of this width.
        unsafe { core::ptr::read_volatile(base.add(offset.load() as usize).cast()) }
    }

    #[inline(always)]
    fn tcp_sock(socket: *const u8) -> *const u8 {
        // SAFETY: the verifier knows `socket` as a socket; the helper returns null for any that is not TCP's.
        unsafe { bpf_skc_to_tcp_sock(socket.cast_mut().cast()).cast_const().cast() }
    }
}

/// Probe reads, for raw tracepoints, where a pointer is a mere number to the verifier.
pub(crate) struct Probed;

impl Memory for Probed {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
        // SAFETY: a probe read of a bad address fails; zero is a value of all types read here (integers, pointers).
        unsafe { bpf_probe_read_kernel(base.add(offset.load() as usize).cast::<T>()).unwrap_or(core::mem::zeroed()) }
    }

    #[inline(always)]
    fn tcp_sock(socket: *const u8) -> *const u8 {
        socket
    }
}

/// Index of a socket's family among [`tracker_common::counters::SOCKET_FAMILIES`].
#[inline(always)]
pub(crate) unsafe fn family<M: Memory>(socket: *const u8) -> Option<usize> {
    // SAFETY: the caller's: `socket` is a `sock_common`.
    match unsafe { M::read::<u16>(socket, &OFF_FAMILY) } {
        AF_INET => Some(0),
        AF_INET6 => Some(1),
        _ => None,
    }
}

/// Local address of a socket, an IPv4 one in mapped form.
#[inline(always)]
pub(crate) unsafe fn local_address<M: Memory>(socket: *const u8, family: usize) -> [u8; 16] {
    // SAFETY: the caller's: `socket` is a `sock_common` of that family.
    unsafe {
        if family == 0 {
            mapped(M::read::<u32>(socket, &OFF_SADDR).to_ne_bytes())
        } else {
            let high = M::read::<u64>(socket, &OFF_SADDR6);
            let low = M::read::<u64>(socket.add(8), &OFF_SADDR6);
            // SAFETY: both are 16 bytes without padding.
            core::mem::transmute::<[u64; 2], [u8; 16]>([high, low])
        }
    }
}

/// Remote address of a socket, an IPv4 one in mapped form.
#[inline(always)]
pub(crate) unsafe fn remote_address<M: Memory>(socket: *const u8, family: usize) -> [u8; 16] {
    // SAFETY: the caller's: `socket` is a `sock_common` of that family.
    unsafe {
        if family == 0 {
            mapped(M::read::<u32>(socket, &OFF_DADDR).to_ne_bytes())
        } else {
            let high = M::read::<u64>(socket, &OFF_DADDR6);
            let low = M::read::<u64>(socket.add(8), &OFF_DADDR6);
            // SAFETY: both are 16 bytes without padding.
            core::mem::transmute::<[u64; 2], [u8; 16]>([high, low])
        }
    }
}

/// Inode number of a socket's network namespace.
#[inline(always)]
pub(crate) unsafe fn netns<M: Memory>(socket: *const u8) -> u32 {
    // SAFETY: the caller's: `socket` is a `sock_common`, whose `skc_net` is never null.
    unsafe {
        let net: *const u8 = M::read(socket, &OFF_NET);
        M::read(net, &OFF_INUM)
    }
}

/// Inode number of the file behind a socket, 0 when there is none.
#[inline(always)]
pub(crate) unsafe fn inode(socket: *const u8) -> u64 {
    // SAFETY: the caller's: `socket` is a full `sock`. The inode lies behind the `struct socket` in a
    // `socket_alloc`, beyond what BTF knows of the pointer's type, hence a probe read.
    unsafe {
        let file: *const u8 = Probed::read(socket, &OFF_SOCKET);
        if file.is_null() { 0 } else { Probed::read(file, &OFF_INODE) }
    }
}

/// Id of the cgroup (v2) of a socket, 0 when it has none.
#[inline(always)]
pub(crate) unsafe fn cgroup<M: Memory>(socket: *const u8) -> u64 {
    // SAFETY: the caller's: `socket` is a full `sock`. A probe read of a null pointer gives 0; with plain loads
    // the kernel does the same for pointers it knows by BTF.
    unsafe {
        let cgroup: *const u8 = M::read(socket, &OFF_CGROUP);
        let node: *const u8 = M::read(cgroup, &OFF_CGROUP_KN);
        M::read(node, &OFF_KN_ID)
    }
}
