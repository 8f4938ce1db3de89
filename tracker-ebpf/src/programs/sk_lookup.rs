//! SYNs that reach TCP, seen when it looks for a listening socket: after netfilter, at the address and port that it
//! made of the destination. Chooses no socket, so that the lookup goes on as without it.
//!
//! The kernel runs it also for an ACK that carries a cookie, for a stray segment, and for a UDP datagram that no
//! connected socket takes (`inet_lookup_run_sk_lookup`).

use core::ptr::read_volatile;

use aya_ebpf::{bindings::sk_action::SK_PASS, macros::sk_lookup, programs::SkLookupContext};
use tracker_common::{
    classify::Family,
    counters::Interface,
    delivery::Target,
    hash::{self, AddrWords},
};

use crate::{
    delivery,
    fields::{AF_INET, AF_INET6, HASH_KEY, IPPROTO_TCP},
    listener_lookup,
};

#[sk_lookup]
#[inline(always)]
pub(crate) fn tracker_sk_lookup(ctx: SkLookupContext) -> u32 {
    let lookup = ctx.lookup;
    // SAFETY: the context that the kernel passes; the verifier checks the access to each field.
    unsafe {
        if (*lookup).protocol != u32::from(IPPROTO_TCP) {
            return SK_PASS;
        }
        let family = (*lookup).family;
        let (remote, local, family) = if family == u32::from(AF_INET) {
            (hash::mapped((*lookup).remote_ip4), hash::mapped((*lookup).local_ip4), Family::Ipv4)
        } else if family == u32::from(AF_INET6) {
            (words(&raw const (*lookup).remote_ip6), words(&raw const (*lookup).local_ip6), Family::Ipv6)
        } else {
            return SK_PASS;
        };
        let (remote_port, port) = (u16::from_be((*lookup).remote_port), (*lookup).local_port as u16);
        let device = Interface { index: (*lookup).ingress_ifindex, slot: 0, flags: 0 };
        let place = match listener_lookup::find(local, port, family, device) {
            Some(slot) => {
                if slot == 0 {
                    // A SYN that was sent elsewhere may be its first.
                    listener_lookup::mark_shared(local, port, family);
                }
                Target::listener(slot)
            }
            None => Target::closed_port(port),
        };
        delivery::looked_up(remote, hash::source(HASH_KEY.load(), remote), remote_port, place);
    }
    SK_PASS
}

/// An IPv6 address of the context, which may be read in words of four bytes alone.
///
/// # Safety
/// `address` is one of the context.
#[inline(always)]
unsafe fn words(address: *const [u32; 4]) -> AddrWords {
    let word = |index: usize| {
        // SAFETY: in bounds of the caller's `address`. Volatile, so that two reads do not become one.
        u64::from(unsafe { read_volatile(address.cast::<u32>().add(index)) })
    };
    let pair = |first: u64, second: u64| {
        if cfg!(target_endian = "little") { first | second << 32 } else { first << 32 | second }
    };
    [pair(word(0), word(1)), pair(word(2), word(3))]
}
