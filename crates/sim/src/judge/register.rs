//! A key that is set to values that are each used once, given deadlines, and deleted. A value that is gone
//! never comes back: once an operation that began after a value's acknowledgement shows that the key does not
//! hold it (another value, none, or an acknowledged overwrite), no later read may return it. This is what
//! reads at a stale leader and clocks that disagree about a deadline (T2) would break.

use std::collections::{BTreeMap, BTreeSet};

use super::{LINEARIZABLE, OUTCOME};
use crate::oracle::Violation;

/// The key's history; times are true ones.
#[derive(Debug, Default)]
pub(crate) struct Register {
    /// Acknowledged and perhaps still there, with the time of the acknowledgement.
    live: BTreeMap<u32, u64>,
    /// Known to be gone since.
    gone: BTreeMap<u32, u64>,
    refused: BTreeSet<u32>,
    seen: BTreeSet<u32>,
}

impl Register {
    /// An operation that began at `begun_us` showed that the key held `value` and nothing else.
    fn holds(&mut self, begun_us: u64, now_us: u64, value: Option<u32>) {
        let replaced: Vec<u32> = self
            .live
            .iter()
            .filter(|(live, acknowledged)| **acknowledged < begun_us && Some(**live) != value)
            .map(|(live, _)| *live)
            .collect();
        for old in replaced {
            self.live.remove(&old);
            self.gone.insert(old, now_us);
        }
    }

    /// A SET ended well.
    pub(crate) fn set(&mut self, begun_us: u64, now_us: u64, value: u32) {
        self.holds(begun_us, now_us, Some(value));
        if !self.gone.contains_key(&value) {
            self.live.insert(value, now_us);
        }
    }

    /// A deletion ended well.
    pub(crate) fn deleted(&mut self, begun_us: u64, now_us: u64) {
        self.holds(begun_us, now_us, None);
    }

    /// A SET was said not to be applied.
    pub(crate) fn refused(&mut self, value: u32) -> Result<(), Violation> {
        self.refused.insert(value);
        if self.seen.contains(&value) {
            return Err(Violation::new(
                OUTCOME,
                format!("value {value} was read although its SET was said not to be applied"),
            ));
        }
        Ok(())
    }

    /// A read ended.
    pub(crate) fn read(&mut self, begun_us: u64, now_us: u64, value: Option<u32>) -> Result<(), Violation> {
        if let Some(value) = value {
            self.seen.insert(value);
            if self.refused.contains(&value) {
                return self.refused(value);
            }
            if let Some(gone_us) = self.gone.get(&value).filter(|gone_us| **gone_us < begun_us) {
                let detail = format!("value {value} was read again although it was gone at {gone_us} us");
                return Err(Violation::new(LINEARIZABLE, detail));
            }
        }
        self.holds(begun_us, now_us, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_back_is_seen() {
        let mut register = Register::default();
        register.set(1, 2, 7);
        assert_eq!(register.read(3, 4, Some(7)), Ok(()));
        assert_eq!(register.read(3, 6, None), Ok(()), "it expired");
        assert_eq!(
            register.read(5, 8, Some(7)),
            Ok(()),
            "began before that was known"
        );
        assert!(register.read(7, 9, Some(7)).is_err());
    }

    #[test]
    fn a_value_that_was_overwritten_or_refused_is_seen() {
        let mut register = Register::default();
        register.set(1, 2, 7);
        register.set(3, 4, 8);
        assert!(register.read(5, 6, Some(7)).is_err());
        assert_eq!(register.refused(9), Ok(()));
        assert!(register.read(7, 8, Some(9)).is_err());
    }
}
