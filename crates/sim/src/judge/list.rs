//! A key that is only appended to, with tokens of a fixed width that are each used once. Its content only ever
//! grows, so a read and an acknowledged append each name the version that they saw (its length), and a history
//! is linearizable exactly if
//!
//! - all contents seen are prefixes of one list, in which no token stands twice and no refused one at all;
//! - an operation sees no older version than any operation that had ended before it began, and an append a
//!   newer one.

use std::collections::BTreeMap;

use super::{LINEARIZABLE, OUTCOME};
use crate::oracle::Violation;

/// Bytes of a token.
const TOKEN_BYTES: usize = 4;

/// What is known of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Under way, or its outcome is unknown.
    Open,
    Acknowledged,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Append {
    /// The newest version that had been seen when it began.
    floor: usize,
    fate: Fate,
    /// Where it stands.
    position: Option<usize>,
}

/// The key's history.
#[derive(Debug, Default)]
pub(crate) struct List {
    appends: BTreeMap<u32, Append>,
    /// The longest content seen.
    known: Vec<u32>,
    /// Acknowledged positions, which may lie behind what was seen.
    places: BTreeMap<usize, u32>,
    /// The newest version that an ended operation saw.
    newest: usize,
}

impl List {
    /// The version that an operation that begins now must see at least.
    pub(crate) fn floor(&self) -> usize {
        self.newest
    }

    pub(crate) fn begin_append(&mut self, token: u32) {
        self.appends.insert(
            token,
            Append {
                floor: self.newest,
                fate: Fate::Open,
                position: None,
            },
        );
    }

    fn stands(&mut self, token: u32, position: usize) -> Result<(), Violation> {
        let Some(append) = self.appends.get_mut(&token) else {
            return Err(Violation::new(
                LINEARIZABLE,
                format!("token {token}, which nobody appended, stands at {position}"),
            ));
        };
        if append.fate == Fate::Refused {
            return Err(Violation::new(
                OUTCOME,
                format!("token {token} stands at {position} although it was said not to be applied"),
            ));
        }
        if let Some(first) = append.position.replace(position)
            && first != position
        {
            return Err(Violation::new(
                LINEARIZABLE,
                format!("token {token} stands at {first} and at {position}"),
            ));
        }
        if position < append.floor {
            let detail = format!(
                "token {token} stands at {position}, but when its append began, {} tokens had been seen already",
                append.floor
            );
            return Err(Violation::new(LINEARIZABLE, detail));
        }
        Ok(())
    }

    /// An append ended well: the key is `bytes` long with it.
    pub(crate) fn appended(&mut self, token: u32, bytes: i64) -> Result<(), Violation> {
        let version = bytes as usize / TOKEN_BYTES;
        if bytes <= 0 || !(bytes as usize).is_multiple_of(TOKEN_BYTES) {
            return Err(Violation::new(
                LINEARIZABLE,
                format!("the append of token {token} answers a length of {bytes}"),
            ));
        }
        self.stands(token, version - 1)?;
        if let Some(append) = self.appends.get_mut(&token) {
            append.fate = Fate::Acknowledged;
        }
        let other = *self.places.entry(version - 1).or_insert(token);
        let seen = self.known.get(version - 1).copied().unwrap_or(other);
        if other != token || seen != token {
            let other = if other == token { seen } else { other };
            return Err(Violation::new(
                LINEARIZABLE,
                format!("tokens {token} and {other} both stand at {}", version - 1),
            ));
        }
        self.newest = self.newest.max(version);
        Ok(())
    }

    /// An append was said not to be applied.
    pub(crate) fn refused(&mut self, token: u32) -> Result<(), Violation> {
        let Some(append) = self.appends.get_mut(&token) else {
            return Ok(());
        };
        append.fate = Fate::Refused;
        match append.position {
            Some(position) => self.stands(token, position),
            None => Ok(()),
        }
    }

    /// A read that began at `floor` ended with `content`.
    pub(crate) fn read(&mut self, floor: usize, content: &[u8]) -> Result<(), Violation> {
        let tokens: Vec<u32> = content
            .chunks_exact(TOKEN_BYTES)
            // Chunks have the width of a token.
            .map(|chunk| u32::from_be_bytes(chunk.try_into().unwrap_or_default()))
            .collect();
        if tokens.len() * TOKEN_BYTES != content.len() {
            return Err(Violation::new(
                LINEARIZABLE,
                format!("a read of {} bytes is no list of tokens", content.len()),
            ));
        }
        if tokens.len() < floor {
            let detail = format!(
                "a read saw {} tokens; when it began, {floor} had been seen already (a stale read)",
                tokens.len()
            );
            return Err(Violation::new(LINEARIZABLE, detail));
        }
        let common = tokens.len().min(self.known.len());
        if let Some(at) = (0..common).find(|at| tokens[*at] != self.known[*at]) {
            let detail = format!(
                "at {at} stands token {}, where {} was seen before",
                tokens[at], self.known[at]
            );
            return Err(Violation::new(LINEARIZABLE, detail));
        }
        for (position, token) in tokens.iter().enumerate().skip(self.known.len()) {
            self.stands(*token, position)?;
            if let Some(place) = self.places.get(&position).filter(|place| *place != token) {
                let detail = format!("at {position} stands token {token}, where {place} was acknowledged");
                return Err(Violation::new(LINEARIZABLE, detail));
            }
            self.known.push(*token);
        }
        self.newest = self.newest.max(tokens.len());
        Ok(())
    }

    /// All is over and the last read is in: every acknowledged append must be there.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        for (token, append) in &self.appends {
            let there = append
                .position
                .is_some_and(|position| self.known.get(position) == Some(token));
            if append.fate == Fate::Acknowledged && !there {
                let detail = format!("token {token} was acknowledged and is not there in the end");
                return Err(Violation::new("acknowledged writes are there in the end", detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.to_be_bytes()).collect()
    }

    fn list(tokens: &[u32]) -> List {
        let mut list = List::default();
        for token in tokens {
            list.begin_append(*token);
        }
        list
    }

    #[test]
    fn a_history_that_fits_is_accepted() {
        let mut list = list(&[1, 2, 3]);
        assert_eq!(list.appended(2, 4), Ok(()));
        assert_eq!(list.read(0, &content(&[2])), Ok(()));
        let floor = list.floor();
        assert_eq!(list.appended(1, 12), Ok(()));
        assert_eq!(
            list.read(floor, &content(&[2, 3])),
            Ok(()),
            "it began before the last append ended"
        );
        assert_eq!(list.read(floor, &content(&[2, 3, 1])), Ok(()));
        assert_eq!(list.end(), Ok(()));
    }

    #[test]
    fn a_stale_read_is_seen() {
        let mut list = list(&[1, 2]);
        assert_eq!(list.appended(1, 4), Ok(()));
        let floor = list.floor();
        assert!(list.read(floor, &[]).is_err());
        list = self::list(&[1, 2]);
        assert_eq!(list.read(0, &content(&[1, 2])), Ok(()));
        let floor = list.floor();
        assert!(
            list.read(floor, &content(&[1])).is_err(),
            "older than another read"
        );
    }

    #[test]
    fn lost_repeated_swapped_and_made_up_tokens_are_seen() {
        assert!(list(&[1]).read(0, &content(&[1, 1])).is_err(), "twice");
        assert!(list(&[1]).read(0, &content(&[9])).is_err(), "never appended");
        let mut swapped = list(&[1, 2]);
        assert_eq!(swapped.read(0, &content(&[1, 2])), Ok(()));
        assert!(swapped.read(0, &content(&[2, 1])).is_err());
        let mut lost = list(&[1, 2]);
        assert_eq!(lost.appended(2, 8), Ok(()));
        assert!(
            lost.read(0, &content(&[2, 1])).is_err(),
            "not where it was acknowledged"
        );
        assert!(lost.end().is_err(), "not there in the end");
        let mut early = list(&[1]);
        assert_eq!(early.appended(1, 4), Ok(()));
        early.begin_append(2);
        assert!(
            early.appended(2, 4).is_err(),
            "before one that ended before it began"
        );
    }

    #[test]
    fn a_refused_append_that_is_applied_is_seen() {
        let mut early = list(&[1]);
        assert_eq!(early.refused(1), Ok(()));
        assert!(early.read(0, &content(&[1])).is_err());
        let mut late = list(&[1]);
        assert_eq!(late.read(0, &content(&[1])), Ok(()));
        assert!(late.refused(1).is_err());
    }
}
