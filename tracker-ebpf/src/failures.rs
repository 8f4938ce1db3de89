//! Connects that got no port.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::HashMap,
};
use tracker_common::{
    counters::Loss,
    hash, limits,
    ports::{Failure, FailureKey},
};

use crate::{
    atomic,
    fields::{self, Memory},
    losses,
};

#[map]
static CONNECT_FAILURES: HashMap<FailureKey, Failure> = HashMap::with_max_entries(limits::CONNECT_FAILURES, 0);

/// Counts a connect that failed with `EADDRNOTAVAIL`. The socket is that of the running process: it has sent nothing yet.
#[inline(always)]
pub(crate) unsafe fn count<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8, family: usize, source_port: u16) {
    // SAFETY: the caller's, for all reads of `socket`: a full socket of that family.
    unsafe {
        let key = FailureKey {
            destination: hash::halves(&fields::remote_address::<M>(socket, family)),
            source: hash::halves(&fields::local_address::<M>(socket, family)),
            netns: fields::netns::<M>(socket),
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            port: u16::from_be(M::read(socket, &fields::OFF_DPORT)),
            bound: u16::from(source_port != 0),
            padding: 0,
        };
        let now = bpf_ktime_get_ns();
        if CONNECT_FAILURES.get_ptr_mut(key).is_none() {
            let failure = Failure {
                count: 0,
                first: now,
                last: now,
                cgroup: fields::cgroup::<M>(socket),
                uid: M::read(socket, &fields::OFF_UID),
                source_port: u32::from(source_port),
                comm: ctx.command().unwrap_or_default(),
            };
            // Another CPU may have been quicker: its entry serves as well.
            let _ = CONNECT_FAILURES.insert(key, failure, u64::from(BPF_NOEXIST));
        }
        let Some(failure) = CONNECT_FAILURES.get_ptr_mut(key) else {
            losses::count(Loss::FailureTableFull);
            return;
        };
        (*failure).last = now;
        atomic::add(&raw mut (*failure).count, 1);
    }
}
