//! The only unsafe code: map values by reference, helpers, reads of the context.
#![expect(unsafe_code, reason = "map values, helpers and the context are raw pointers")]

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use ebpf_common::endpoint::Publication;
use ebpf_common::event::FlowRecord;
use ebpf_common::program::Vector;

use crate::maps::{EVENTS, INTERFACES};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An element of a map that programs only read.
#[inline(always)]
pub fn read<K, V>(map: &'static HashMap<K, V>, key: &K) -> Option<&'static V> {
    // SAFETY: the kernel keeps the element's memory until the program ends. A value that is replaced meanwhile may be
    // seen torn; the readers' modules say why that does no harm.
    unsafe { map.get(key) }
}

/// An element that programs change.
#[inline(always)]
pub fn write<K, V>(map: &'static HashMap<K, V>, key: &K) -> Option<&'static mut V> {
    // SAFETY: as `read`; concurrent changes by other CPUs are of whole words and tolerated.
    map.get_ptr_mut(key).map(|p| unsafe { &mut *p })
}

/// The same in an LRU map.
#[inline(always)]
pub fn write_lru<K, V>(map: &'static LruHashMap<K, V>, key: &K) -> Option<&'static mut V> {
    // SAFETY: as `write`.
    map.get_ptr_mut(key).map(|p| unsafe { &mut *p })
}

/// This CPU's slot.
#[inline(always)]
pub fn slot<V>(map: &'static PerCpuArray<V>, index: u32) -> Option<&'static mut V> {
    // SAFETY: only this CPU uses the slot, and these programs do not interrupt each other.
    map.get_ptr_mut(index).map(|p| unsafe { &mut *p })
}

/// What is published for an interface, in one load.
#[inline(always)]
pub fn publication(ifindex: u32) -> Option<Publication> {
    let at = INTERFACES.get_ptr(&ifindex)?;
    // SAFETY: 8 bytes, aligned to 8, of integers.
    let word = unsafe { at.cast::<u64>().read_volatile() };
    let publication: Publication =
        // SAFETY: two integers in the place of one.
        unsafe { core::mem::transmute(word) };
    (publication.ifindex == ifindex).then_some(publication)
}

/// Monotonic clock at the last tick, nanoseconds.
#[inline(always)]
pub fn coarse_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Monotonic clock, nanoseconds.
#[inline(always)]
pub fn precise_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The interface that the packet is at.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the kernel gives a valid context.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// The interface that the packet came in by; 0 for the host's own packets.
#[inline(always)]
pub fn ingress_ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the kernel gives a valid context.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// The frame's type, host byte order.
#[inline(always)]
pub fn ethertype(ctx: &TcContext) -> u16 {
    // SAFETY: the kernel gives a valid context.
    u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16)
}

/// Whether a VLAN tag was taken off the frame.
#[inline(always)]
pub fn has_vlan(ctx: &TcContext) -> bool {
    // SAFETY: the kernel gives a valid context.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

/// A number below 64, in a way that the compiler cannot undo and the verifier can see.
#[inline(always)]
pub fn below_64(mut x: u64) -> u64 {
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{0} &= 63", inout(reg) x, options(pure, nomem, nostack));
    }
    x
}

/// A number as memory has it, which the compiler may not keep in a register.
#[inline(always)]
pub fn unfollowed(at: &mut u64) -> u64 {
    // SAFETY: a valid reference.
    unsafe { core::ptr::from_mut(at).read_volatile() }
}

/// Writes an entry of a list of at most 8, a power of two; false if there is none at `at`.
#[inline(always)]
pub fn store<const N: usize>(list: &mut [u16; N], at: u8, value: u16) -> bool {
    const { assert!(N.is_power_of_two() && N <= 8) };
    if at as usize >= N {
        return false;
    }
    let mut at = at as u64;
    // SAFETY: arithmetic on a register, for the verifier; the entry is in the list.
    unsafe {
        match N {
            8 => asm!("{0} &= 7", inout(reg) at, options(pure, nomem, nostack)),
            4 => asm!("{0} &= 3", inout(reg) at, options(pure, nomem, nostack)),
            _ => at = 0,
        }
        *list.get_unchecked_mut(at as usize) = value;
    }
    true
}

/// A word of a vector; `at` comes from [`below_64`].
#[inline(always)]
pub fn word(vector: &Vector, at: usize) -> u64 {
    // SAFETY: below 64, the number of words. A checked index would leave a panic that the verifier refuses.
    unsafe { *vector.words.get_unchecked(at) }
}

/// What the routing tables say of a packet from the workload: the code of `bpf_fib_lookup`.
#[inline(never)]
pub fn fib(ctx: &TcContext, ifindex: u32, family: u8, source: &[u32; 4], destination: &[u32; 4]) -> i64 {
    // SAFETY: a structure of integers.
    let mut params: FibLookup = unsafe { core::mem::zeroed() };
    params.ifindex = ifindex;
    if family == 4 {
        params.family = AF_INET;
        params.__bindgen_anon_3.ipv4_src = source[3];
        params.__bindgen_anon_4.ipv4_dst = destination[3];
    } else {
        params.family = AF_INET6;
        params.__bindgen_anon_3.ipv6_src = *source;
        params.__bindgen_anon_4.ipv6_dst = *destination;
    }
    // SAFETY: the context is the kernel's, and the structure has the size given.
    unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut params, size_of::<FibLookup>() as i32, 0) }
}

/// Puts an event into the ring; false if there is no room.
#[inline(always)]
pub fn submit(fill: impl FnOnce(&mut FlowRecord)) -> bool {
    let Some(mut entry) = EVENTS.reserve::<FlowRecord>(0) else {
        return false;
    };
    // SAFETY: `fill` writes every field; the memory is the program's until it is submitted.
    fill(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(0);
    true
}

/// An argument of a function with global linkage.
#[inline(always)]
pub fn given<T>(at: *const T) -> Option<&'static T> {
    // SAFETY: the callers pass references; the verifier knows the size.
    unsafe { at.as_ref() }
}

/// See [`given`].
#[inline(always)]
pub fn given_mut<T>(at: *mut T) -> Option<&'static mut T> {
    // SAFETY: as `given`.
    unsafe { at.as_mut() }
}
