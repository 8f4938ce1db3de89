//! tracker's kernel programs. Each file of `programs/` is one; what they share stands beside it, each map private
//! to the file that gives access to it. What the daemon must know too belongs to tracker-common.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "kernel numbers of known range; a checked conversion has a branch that panics, which no program may have"
)]
#![allow(clippy::needless_pass_by_value, reason = "the program macros pass the context by value")]
#![allow(clippy::single_match_else, reason = "the verifier's view of each branch is easier to follow so")]

mod atomic;
mod binds;
mod connectors;
mod count;
mod counted_map;
mod delivery;
mod failures;
mod fields;
mod flows;
mod handshake;
mod interfaces;
mod lifetimes;
mod listener_census;
mod listener_counters;
mod listener_lookup;
mod listeners;
mod listening;
mod local;
mod losses;
mod packet;
mod ports;
mod programs;
mod ranges;
mod sightings;
mod socket_dump;
mod sockets;
mod sources;
mod watch;

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
