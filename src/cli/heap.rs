//! The C library's heap, which all memory of this process comes from.

use std::num::NonZeroUsize;

use crate::config::environment;

/// Cores for each heap that threads share.
const CORES: usize = 8;

/// Heaps at least: who has to wait for one takes the other.
const HEAPS_MIN: usize = 2;

/// Bounds how many heaps threads share, unless somebody has done so. By itself glibc makes up to eight for each core, and what
/// was freed in one serves no thread of another: with a hundred threads that make meshes in turn, what they kept grew for as
/// long as was looked (PERFORMANCE, "Memory"). To be called before there are threads.
#[expect(unsafe_code, reason = "the C library's setting")]
pub fn share() {
    if environment::is_heap_configured() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let heaps = (cores / CORES).max(HEAPS_MIN);
    // SAFETY: it takes two numbers and sets one; no other thread is there to allocate meanwhile.
    let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps as libc::c_int) };
    debug_assert_eq!(is_set, 1, "every glibc knows this setting");
}
