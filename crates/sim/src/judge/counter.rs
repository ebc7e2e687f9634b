//! A key that is only incremented, by one. Its value only grows, so a read and an acknowledged increment each
//! name the version that they saw; what an increment answers, no other does.

use std::collections::BTreeSet;

use super::{LINEARIZABLE, OUTCOME};
use crate::oracle::Violation;

/// The key's history.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    begun: i64,
    refused: i64,
    acknowledged: BTreeSet<i64>,
    newest: i64,
}

impl Counter {
    /// The version that an operation that begins now must see at least.
    pub(crate) fn floor(&self) -> i64 {
        self.newest
    }

    pub(crate) fn begin_increment(&mut self) {
        self.begun += 1;
    }

    fn sees(&mut self, value: i64) -> Result<(), Violation> {
        self.newest = self.newest.max(value);
        if self.newest > self.begun - self.refused {
            let detail = format!(
                "a counter stands at {} after {} increments, of which {} were said not to be applied",
                self.newest, self.begun, self.refused
            );
            return Err(Violation::new(OUTCOME, detail));
        }
        Ok(())
    }

    /// An increment that began at `floor` ended well.
    pub(crate) fn incremented(&mut self, floor: i64, value: i64) -> Result<(), Violation> {
        if value <= floor || !self.acknowledged.insert(value) {
            let detail = format!(
                "an increment answers {value}; {floor} had been seen when it began, or another one answered it"
            );
            return Err(Violation::new(LINEARIZABLE, detail));
        }
        self.sees(value)
    }

    /// An increment was said not to be applied.
    pub(crate) fn refused(&mut self) -> Result<(), Violation> {
        self.refused += 1;
        self.sees(self.newest)
    }

    /// A read that began at `floor` ended.
    pub(crate) fn read(&mut self, floor: i64, value: i64) -> Result<(), Violation> {
        if value < floor {
            let detail = format!(
                "a read of a counter saw {value}; when it began, {floor} had been seen (a stale read)"
            );
            return Err(Violation::new(LINEARIZABLE, detail));
        }
        self.sees(value)
    }

    /// All is over and the last read is in.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        let acknowledged = self.acknowledged.len() as i64;
        if self.newest < acknowledged {
            let detail = format!(
                "a counter ends at {} after {acknowledged} acknowledged increments",
                self.newest
            );
            return Err(Violation::new("acknowledged writes are there in the end", detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_repeated_stale_and_refused_increments_are_seen() {
        let three = || Counter {
            begun: 3,
            ..Counter::default()
        };
        let mut fits = three();
        assert_eq!(fits.incremented(0, 2), Ok(()));
        assert_eq!(fits.read(2, 3), Ok(()));
        assert_eq!(fits.end(), Ok(()));
        assert!(fits.read(3, 2).is_err(), "stale");
        assert!(three().read(0, 4).is_err(), "one ran twice");
        assert!(fits.refused().is_err(), "a refused one ran");
        let mut twice = three();
        assert_eq!(twice.incremented(0, 1), Ok(()));
        assert!(twice.incremented(0, 1).is_err(), "one was lost");
    }
}
