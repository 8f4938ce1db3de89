//! Programs at the lookup of a socket, by `BPF_PROG_TEST_RUN`: aya runs other kinds only.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// The command of bpf(2).
const PROG_TEST_RUN: libc::c_int = 10;

/// A packet for which the kernel looks for a socket: `struct bpf_sk_lookup`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketLookup {
    cookie: u64,
    family: u32,
    protocol: u32,
    remote_ipv4: [u8; 4],
    remote_ipv6: [u8; 16],
    remote_port: [u8; 2],
    padding: u16,
    local_ipv4: [u8; 4],
    local_ipv6: [u8; 16],
    local_port: u32,
    /// The kernel takes no other than 0 for a test.
    interface: u32,
    /// What the compiler would leave as it is must be 0 too.
    tail: u32,
}

impl SocketLookup {
    /// A packet of a protocol (`IPPROTO_TCP`, `IPPROTO_UDP`) from `remote` to `local`, both of one family.
    pub fn new(protocol: libc::c_int, remote: SocketAddr, local: SocketAddr) -> Result<Self> {
        let port = local.port().into();
        let mut lookup = Self { protocol: protocol.try_into()?, local_port: port, ..Self::default() };
        lookup.remote_port = remote.port().to_be_bytes();
        match (remote, local) {
            (SocketAddr::V4(remote), SocketAddr::V4(local)) => {
                lookup.family = libc::AF_INET.try_into()?;
                (lookup.remote_ipv4, lookup.local_ipv4) = (remote.ip().octets(), local.ip().octets());
            }
            (SocketAddr::V6(remote), SocketAddr::V6(local)) => {
                lookup.family = libc::AF_INET6.try_into()?;
                (lookup.remote_ipv6, lookup.local_ipv6) = (remote.ip().octets(), local.ip().octets());
            }
            _ => anyhow::bail!("{remote} and {local} are of two families"),
        }
        Ok(lookup)
    }
}

/// `union bpf_attr` of this command.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs a program `repeat` times; returns the mean time of one run, which the kernel gives in whole nanoseconds.
pub fn test_run(program: BorrowedFd<'_>, lookup: &SocketLookup, repeat: u32) -> Result<Duration> {
    let mut run = TestRun {
        program: program.as_raw_fd().try_into()?,
        repeat,
        context_in_size: size_of::<SocketLookup>().try_into()?,
        context_in: std::ptr::from_ref(lookup) as u64,
        ..TestRun::default()
    };
    // SAFETY: `run` and the context that it refers to live until the call returns; the kernel writes into `run` alone.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut run, size_of::<TestRun>()) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("BPF_PROG_TEST_RUN");
    }
    Ok(Duration::from_nanos(run.duration_ns.into()))
}
