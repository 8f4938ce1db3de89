//! Connects that got no port.

use aya_ebpf::{EbpfContext, macros::map, maps::HashMap};
use tracker_common::{
    limits,
    ports::{Failure, FailureKey},
};

use crate::{
    counted_map,
    fields::{self, Memory},
    ranges,
};

#[map]
static CONNECT_FAILURES: HashMap<FailureKey, Failure> = HashMap::with_max_entries(limits::CONNECT_FAILURES, 0);

/// Counts a connect that failed with `EADDRNOTAVAIL`. The socket is that of the running process: it has sent nothing
/// yet.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn count<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8, family: usize, source_port: u16) {
    // SAFETY: the caller's `socket`, which begins with a `sock_common`.
    unsafe {
        let key = FailureKey {
            destination: fields::remote_address::<M>(socket, family),
            source: fields::local_address::<M>(socket, family),
            netns: fields::netns::<M>(socket),
            pid: counted_map::process(),
            port: u16::from_be(M::read(socket, &fields::OFF_DPORT)),
            bound: u16::from(source_port != 0),
            range: ranges::set_by(socket),
        };
        counted_map::count_failure::<M, C, _>(ctx, &CONNECT_FAILURES, &key, socket, source_port);
    }
}
