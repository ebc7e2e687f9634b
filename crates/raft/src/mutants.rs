//! Deliberate bugs, which the tests must catch: tests that cannot fail prove nothing.
//!
//! A hook, `mutant!("name")`, stands where a rule is kept and is true while the mutant of that name is active.
//! Without the feature `mutants`, which only test builds enable, it is the constant `false`, and the bug is not
//! compiled. The list of all mutants, of this and the other crates, is `crates/sim/examples/mutants/table`;
//! `docs/mutants.md` says how to run and add them.

/// Whether a mutant is active: never, in ordinary builds.
#[cfg(not(feature = "mutants"))]
#[doc(hidden)]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

/// Whether a mutant is active on this thread.
#[cfg(feature = "mutants")]
#[doc(hidden)]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::is_active($name)
    };
}

#[cfg(feature = "mutants")]
#[doc(hidden)]
mod active {
    extern crate std;

    use core::cell::Cell;

    std::thread_local! {
        /// The active mutant, and how often its hook was passed.
        static ACTIVE: Cell<(&'static str, u64)> = const { Cell::new(("", 0)) };
    }

    /// Activates a mutant on this thread, instead of the one before; an empty name is none. Returns how often
    /// the hook of the one before was passed.
    pub fn activate(name: &'static str) -> u64 {
        ACTIVE.replace((name, 0)).1
    }

    /// Whether the mutant is active on this thread.
    pub fn is_active(name: &str) -> bool {
        let (active, passed) = ACTIVE.get();
        let is_active = active == name;
        if is_active {
            ACTIVE.set((active, passed + 1));
        }
        is_active
    }
}

#[cfg(feature = "mutants")]
#[doc(hidden)]
pub use active::{activate, is_active};
