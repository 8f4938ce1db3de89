//! The end of `bind()`, by fexit: it costs those that bind, and nobody else.

use aya_ebpf::{macros::fexit, programs::FExitContext};

use crate::binds::{self, Call};

#[fexit(function = "__sys_bind")]
pub fn tracker_bind(ctx: FExitContext) -> i32 {
    // `int __sys_bind(int fd, struct sockaddr __user *umyaddr, int addrlen)`
    let call = Call { descriptor: ctx.arg::<u64>(0), address: ctx.arg::<u64>(1) };
    binds::ended(&ctx, call, i64::from(ctx.arg::<i32>(3)));
    0
}
