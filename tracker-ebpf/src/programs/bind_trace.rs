//! The end of `bind()`, by the tracepoints of its system call, where fexit is refused. While they are attached every
//! system call of every process takes a slower path, hence only with `--trace-bind`.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{map, tracepoint},
    maps::LruHashMap,
    programs::TracePointContext,
};
use tracker_common::limits;

use crate::binds::{self, Call};

/// Calls under way, by thread. That of a thread that was killed meanwhile makes room for others.
#[map]
static BIND_CALLS: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(limits::BIND_CALLS, 0);

/// Offset of the first argument, and of the result, in both records
/// (`/sys/kernel/tracing/events/syscalls/sys_enter_bind/format`).
const FIRST: usize = 16;

#[tracepoint(category = "syscalls", name = "sys_enter_bind")]
pub fn tracker_bind_in(ctx: TracePointContext) -> u32 {
    // SAFETY: within the record of this tracepoint.
    let call = unsafe { [ctx.read_at::<u64>(FIRST).unwrap_or(0), ctx.read_at::<u64>(FIRST + 8).unwrap_or(0)] };
    let _ = BIND_CALLS.insert(bpf_get_current_pid_tgid(), call, 0);
    0
}

#[tracepoint(category = "syscalls", name = "sys_exit_bind")]
pub fn tracker_bind_out(ctx: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = BIND_CALLS.get_ptr(thread) else { return 0 };
    // SAFETY: an entry of the map that only this thread writes; within the record of this tracepoint.
    let ([descriptor, address], result) = unsafe { (*call, ctx.read_at::<i64>(FIRST).unwrap_or(0)) };
    let _ = BIND_CALLS.remove(thread);
    binds::ended(&ctx, Call { descriptor, address }, result);
    0
}
