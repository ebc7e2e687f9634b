//! The same seed gives the same simulation under another allocator: nothing depends on where things lie in
//! memory. This test has one of its own, which at the turn of a switch puts every block at another address.

// A global allocator is unsafe to write; this one only moves what the system's gives.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_sim::{Options, Profile, Report, run};

/// Bytes in front of every block, so that a block can be moved without remembering by how much.
const ROOM: usize = 4096;

static SCATTERS: AtomicBool = AtomicBool::new(false);
static SCATTERED: AtomicU64 = AtomicU64::new(0);

struct Scattering;

/// The layout with room in front, and how far the caller's block lies behind the system's: always `ROOM`, or the
/// alignment where that is larger.
fn with_room(layout: Layout, behind: usize) -> Option<(Layout, usize)> {
    let front = ROOM.max(layout.align());
    let size = layout.size().checked_add(front)?.checked_add(behind)?;
    Some((Layout::from_size_align(size, layout.align()).ok()?, front))
}

/// Blocks of one size come from other places of the heap when what lies behind them varies; it is found again
/// from the block's size alone, since it must be known when the block is given back.
fn behind(layout: Layout) -> usize {
    (layout.size().wrapping_mul(0x9E37_79B9) >> 7) % 3000
}

// SAFETY: every call is the system allocator's, with a larger layout that `alloc` and `dealloc` compute from the
// caller's alone, and the block that the caller gets lies inside of it at a multiple of its alignment.
unsafe impl GlobalAlloc for Scattering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((wide, front)) = with_room(layout, behind(layout)) else {
            return std::ptr::null_mut();
        };
        if SCATTERS.load(Ordering::Relaxed) {
            // A block that is taken and given back first makes the next one come from elsewhere.
            let count = SCATTERED.fetch_add(1, Ordering::Relaxed);
            let size = 16 + (count.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize;
            if let Ok(other) = Layout::from_size_align(size, 16) {
                // SAFETY: the layout's size is not zero, and the block is given back with the same layout.
                unsafe {
                    let held = System.alloc(other);
                    let block = System.alloc(wide);
                    if !held.is_null() {
                        System.dealloc(held, other);
                    }
                    return if block.is_null() { block } else { block.add(front) };
                }
            }
        }
        // SAFETY: the layout's size is not zero, and `front` lies inside of it.
        unsafe {
            let block = System.alloc(wide);
            if block.is_null() { block } else { block.add(front) }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some((wide, front)) = with_room(layout, behind(layout)) {
            // SAFETY: `alloc` gave the block, from the same layout.
            unsafe { System.dealloc(block.sub(front), wide) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Scattering = Scattering;

#[test]
fn the_same_seed_gives_the_same_trace_wherever_things_lie_in_memory() {
    let options = Options {
        fault_ms: Some(2_000),
        ..Options::short()
    };
    let simulate = |scatters: bool| -> Vec<Report> {
        SCATTERS.store(scatters, Ordering::Relaxed);
        let runs = Profile::ALL
            .iter()
            .flat_map(|profile| [7, 8].map(|seed| (seed, *profile)));
        let reports = runs
            .map(|(seed, profile)| run(seed, profile, &options).unwrap())
            .collect();
        SCATTERS.store(false, Ordering::Relaxed);
        reports
    };
    let usual = simulate(false);
    assert!(simulate(true) == usual, "a simulation depends on addresses");
    assert!(
        SCATTERED.load(Ordering::Relaxed) > 100_000,
        "the switch does something"
    );
}
