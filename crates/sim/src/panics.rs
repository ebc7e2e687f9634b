//! Panics of the code under test: a property that failed, reported like any other one.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// A simulation runs on this thread.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    /// What the last panic said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `simulate`. A panic becomes its text and place, and is not printed.
pub(crate) fn caught<T>(simulate: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_WATCHED.get() {
                SAID.set(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
    IS_WATCHED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(simulate));
    IS_WATCHED.set(false);
    result.map_err(|_| SAID.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_place() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| assert_eq!(1, 2, "one is not two")).unwrap_err();
        assert!(
            said.contains("one is not two") && said.contains("panics.rs"),
            "{said}"
        );
    }
}
