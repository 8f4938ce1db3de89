//! Instructions that the compiler does not emit for this target by itself: atomic ones, and the one that takes the
//! lower half of an address.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// Adds to a counter that other CPUs add to as well.
///
/// # Safety
/// `counter` points into a map value and is aligned.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: `counter` is valid, as the caller proves; one instruction, which touches nothing but that number.
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
/// `counter` points into a map value and is aligned.
#[inline(always)]
#[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "assigned by the instruction"))]
pub(crate) unsafe fn fetch_add(counter: *mut u64, mut value: u64) -> u64 {
    // SAFETY: `counter` is valid, as the caller proves; one instruction, which touches that number and one register.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counter,
            value = inout(reg) value,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = counter;
    value
}

/// Sets a number to `new` if it is `old`; returns what it was before.
///
/// # Safety
/// `number` points into a map value and is aligned.
#[inline(always)]
#[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "assigned by the instruction"))]
pub(crate) unsafe fn exchange_if(number: *mut u64, mut old: u64, new: u64) -> u64 {
    // SAFETY: `number` is valid, as the caller proves; one instruction, which touches that number and r0, an operand.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!("r0 = cmpxchg_64({number} + 0, r0, {new})", number = in(reg) number, new = in(reg) new, inout("r0") old);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (number, new);
    old
}

/// The lower half of a kernel address, as a mere number. The verifier lets nobody calculate with all of an address.
#[inline(always)]
pub(crate) fn lower_half(address: *const u8) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let half: u64;
        // SAFETY: one instruction between two registers.
        unsafe { asm!("w0 = w1", in("r1") address, lateout("r0") half) };
        half as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        address as u32
    }
}

/// One less.
pub(crate) const MINUS_ONE: u64 = u64::MAX;
