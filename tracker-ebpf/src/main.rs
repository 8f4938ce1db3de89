//! tracker's kernel programs. Each file of `programs/` is one; what they share stands beside it, each map private
//! to the file that gives access to it.
#![no_std]
#![no_main]
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

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
