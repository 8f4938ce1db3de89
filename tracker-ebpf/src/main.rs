//! tracker's kernel programs. Each file of `programs/` is one; what they share stands beside it, each map private
//! to the file that gives access to it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod count;
mod fields;
mod interfaces;
mod listeners;
mod local;
mod losses;
mod packet;
mod programs;
mod sockets;
mod timed;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program with a loop that does not end.
    loop {}
}

/// The programs are for the BPF target alone; this lets the lints run on the host.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
