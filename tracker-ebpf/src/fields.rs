//! Reading the fields of kernel structures, at offsets that the daemon takes from the running kernel's BTF.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_skc_to_tcp_sock},
};
use tracker_common::{
    fields::ABSENT,
    hash::{self, AddrWords},
};

/// Declares the globals that the daemon overrides at load; the verifier then sees constants.
macro_rules! globals {
    ($type:ty = $default:expr; $($name:ident),* $(,)?) => { $(
        #[unsafe(no_mangle)]
        pub(crate) static $name: Global<$type> = Global::new($default);
    )* };
}

/// Declares the globals of the list of fields.
macro_rules! offsets {
    (
        required { $( $required:ident: $($_required:ident).+; )* }
        optional { $( $optional:ident: $($_optional:ident).+; )* }
        bits { $( $bit:ident: $($_bit:ident).+; )* }
    ) => {
        globals! { u32 = ABSENT; $( $required, )* $( $optional, )* OFF_INODE }
        globals! { u32 = 0; $( $bit, )* }
    };
}
tracker_common::for_each_field!(offsets);
globals! { u32 = 0; NETNS, ALL_NETNS, SAMPLE_MASK, SCATTER }
globals! { u64 = 0; HASH_KEY }

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
pub(crate) const IPPROTO_TCP: u16 = 6;
pub(crate) const IPPROTO_UDP: u16 = 17;

/// How memory of the kernel is read.
pub(crate) trait Memory {
    /// Whether the verifier knows the pointers by their type, as some helpers demand.
    const TYPED: bool;

    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    /// `base` points to a kernel structure that has a `T` at that offset.
    unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> T;

    /// The socket as a `tcp_sock`, or null when it is not one of TCP.
    fn tcp_sock(socket: *const u8) -> *const u8;
}

/// Plain loads, for programs whose pointers the verifier knows by BTF type.
pub(crate) struct Typed;

impl Memory for Typed {
    const TYPED: bool = true;

    /// # Safety
    /// As [`Memory::read`]; and the verifier knows the type of `base`, or refuses the program.
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
        // SAFETY: a `T` is at `base + offset`, as the caller proves; the verifier checks the access against the BTF
        // type. Volatile, so that it stays one load of this width.
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
    const TYPED: bool = false;

    /// # Safety
    /// As [`Memory::read`]; zero bytes, which a failed read gives, are a value of `T`.
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
///
/// # Safety
/// `socket` is a `sock_common` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn family<M: Memory>(socket: *const u8) -> Option<usize> {
    // SAFETY: the caller's `socket`.
    match unsafe { M::read::<u16>(socket, &OFF_FAMILY) } {
        AF_INET => Some(0),
        AF_INET6 => Some(1),
        _ => None,
    }
}

/// Local address of a socket, an IPv4 one in mapped form.
///
/// # Safety
/// `socket` is a `sock_common` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn local_address<M: Memory>(socket: *const u8, family: usize) -> AddrWords {
    // SAFETY: the caller's `socket`, of which these are fields.
    unsafe { address::<M>(socket, family, &OFF_SADDR, &OFF_SADDR6) }
}

/// Remote address of a socket, an IPv4 one in mapped form.
///
/// # Safety
/// `socket` is a `sock_common` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn remote_address<M: Memory>(socket: *const u8, family: usize) -> AddrWords {
    // SAFETY: the caller's `socket`, of which these are fields.
    unsafe { address::<M>(socket, family, &OFF_DADDR, &OFF_DADDR6) }
}

/// An address of a socket: 4 bytes at one offset for IPv4, 16 bytes at the other for IPv6.
///
/// # Safety
/// `socket` is a `sock_common` of that family that `M` can read, with addresses at these offsets.
#[inline(always)]
unsafe fn address<M: Memory>(socket: *const u8, family: usize, v4: &Global<u32>, v6: &Global<u32>) -> AddrWords {
    // SAFETY: the caller's `socket` and offsets.
    unsafe {
        if family == 0 {
            hash::mapped(M::read::<u32>(socket, v4))
        } else {
            [M::read::<u64>(socket, v6), M::read::<u64>(socket.add(8), v6)]
        }
    }
}

/// Inode number of a socket's network namespace.
///
/// # Safety
/// `socket` is a `sock_common` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn netns<M: Memory>(socket: *const u8) -> u32 {
    // SAFETY: the caller's `socket`, whose `skc_net` is never null.
    unsafe {
        let net: *const u8 = M::read(socket, &OFF_NET);
        M::read(net, &OFF_INUM)
    }
}

/// Inode number of the file behind a socket, 0 without a file.
///
/// # Safety
/// `socket` is a full `sock`.
#[inline(always)]
pub(crate) unsafe fn inode(socket: *const u8) -> u64 {
    // SAFETY: the caller's `socket`. The inode lies behind the `struct socket` in a `socket_alloc`, beyond what BTF
    // knows of the pointer's type, hence a probe read.
    unsafe {
        let file: *const u8 = Probed::read(socket, &OFF_SOCKET);
        if file.is_null() { 0 } else { Probed::read(file, &OFF_INODE) }
    }
}

/// Id of the cgroup (v2) of a socket, 0 when it has none.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn cgroup<M: Memory>(socket: *const u8) -> u64 {
    // SAFETY: the caller's `socket`. A probe read of a null pointer gives 0; with plain loads the kernel does the same
    // for pointers it knows by BTF.
    unsafe {
        let cgroup: *const u8 = M::read(socket, &OFF_CGROUP);
        let node: *const u8 = M::read(cgroup, &OFF_CGROUP_KN);
        M::read(node, &OFF_KN_ID)
    }
}
