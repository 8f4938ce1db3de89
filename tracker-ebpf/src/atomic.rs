//! Atomic additions. The compiler has none for this target yet, so they are written as the instructions they are.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// Adds to a counter that other CPUs add to as well.
///
/// # Safety
/// `counter` points into a map value and is aligned.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: the caller's; one instruction, which touches nothing but the counter.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {value}", counter = in(reg) counter, value = in(reg) value);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (counter, value);
}

/// Adds to a counter and returns what it was before.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
#[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "assigned by the instruction"))]
pub(crate) unsafe fn fetch_add(counter: *mut u64, mut value: u64) -> u64 {
    // SAFETY: as in `add`.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})", counter = in(reg) counter, value = inout(reg) value);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = counter;
    value
}

/// One less.
pub(crate) const MINUS_ONE: u64 = u64::MAX;
