//! Programs that do nothing: what is measured against them is the cost of tracker's own.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use core::ffi::c_void;

const XDP_PASS: i32 = 2;
/// Lets the next classifier decide.
const TC_UNSPEC: i32 = -1;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: nothing here can panic.
    loop {}
}

/// These programs are for the BPF target alone; this lets the lints run on the host.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
extern "C" fn empty_xdp(_: *mut c_void) -> i32 {
    XDP_PASS
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn empty_tc(_: *mut c_void) -> i32 {
    TC_UNSPEC
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/inet_sock_set_state")]
extern "C" fn empty_sock(_: *mut c_void) -> i32 {
    0
}

/// `SK_PASS`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "sk_lookup")]
extern "C" fn empty_sk_lookup(_: *mut c_void) -> i32 {
    1
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
