//! Reading ahead, which no safe function offers for it.
#![expect(unsafe_code, reason = "prefetch instructions")]

/// Has the processor fetch an item that is about to be read, without waiting for it. Of no effect but on time, and
/// of none where there is no such item.
pub(super) fn read_ahead<T>(items: &[T], at: usize) {
    let Some(item) = items.get(at) else { return };
    let address = std::ptr::from_ref(item).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that neither reads nor faults, of an instruction that all processors of this architecture have.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint that neither reads nor faults, of an instruction that all processors of this architecture have.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
