//! Programs that do nothing: what is measured against them is the cost of tracker's own. Not part of the daemon.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{btf_tracepoint, classifier, xdp},
    programs::{BtfTracePointContext, TcContext, XdpContext},
};

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: nothing here can panic.
    loop {}
}

/// These programs are for the BPF target alone; this lets the lints run on the host.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[xdp]
pub(crate) fn empty_xdp(_: XdpContext) -> u32 {
    XDP_PASS
}

#[classifier]
pub(crate) fn empty_tc(_: TcContext) -> i32 {
    -1
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn empty_sock(_: BtfTracePointContext) -> i32 {
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
