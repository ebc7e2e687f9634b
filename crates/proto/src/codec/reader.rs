//! A bounds-checked cursor over the input.

use bytes::Bytes;

use super::Wire;
use crate::{DecodeError, DecodeProblem};

/// The most elements reserved for at once. A list's memory is several times its bytes, so even a length that
/// the input could hold is not trusted further than this; longer lists grow as their elements arrive.
const RESERVED_MAX: usize = 1024;

/// A cursor over the input. Invariant: `at <= source.len()`.
pub(super) struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Bytes) -> Self {
        Reader { source, at: 0 }
    }

    /// A reader that starts behind the first `at` bytes.
    pub(super) fn starting_at(source: &'a Bytes, at: usize) -> Self {
        Reader {
            source,
            at: at.min(source.len()),
        }
    }

    /// The position, in bytes from the start of the input.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.source.len() - self.at
    }

    #[cold]
    fn error(&self, what: &'static str, problem: DecodeProblem) -> DecodeError {
        DecodeError {
            what,
            at: self.at,
            problem,
        }
    }

    /// An error about the byte just read.
    #[cold]
    pub(super) fn unknown_tag(&self, what: &'static str, tag: u8) -> DecodeError {
        DecodeError {
            what,
            at: self.at.saturating_sub(1),
            problem: DecodeProblem::UnknownTag(tag),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        match self.source.get(self.at..).and_then(<[u8]>::first_chunk::<N>) {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(self.error(
                what,
                DecodeProblem::Truncated {
                    wanted: N as u64,
                    left: self.left(),
                },
            )),
        }
    }

    #[inline]
    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(self.unknown_tag(what, tag)),
        }
    }

    #[inline]
    pub(super) fn u32_le(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64_le(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn i64_le(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_le_bytes)
    }

    #[inline]
    pub(super) fn u128_le(&mut self, what: &'static str) -> Result<u128, DecodeError> {
        self.array(what).map(u128::from_le_bytes)
    }

    #[inline]
    pub(super) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        // Most numbers on the wire are below 128.
        match self.source.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varint_long(what),
        }
    }

    fn varint_long(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let rest = &self.source[self.at..];
        let mut value = 0u64;
        for (position, &byte) in rest.iter().take(10).enumerate() {
            // The tenth byte holds the 64th bit alone; a zero at the end is not the shortest form.
            if (position == 9 && byte > 1) || (position > 0 && byte == 0) {
                return Err(self.error(what, DecodeProblem::Varint));
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                self.at += position + 1;
                return Ok(value);
            }
        }
        let wanted = rest.len() as u64 + 1;
        Err(self.error(
            what,
            DecodeProblem::Truncated {
                wanted,
                left: rest.len(),
            },
        ))
    }

    /// A varint that must fit `T`.
    pub(super) fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        let at = self.at;
        let value = self.varint(what)?;
        T::try_from(value).map_err(|_| DecodeError {
            what,
            at,
            problem: DecodeProblem::OutOfRange(value),
        })
    }

    /// A byte string: a slice of the input, not a copy.
    #[inline]
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let wanted = self.varint(what)?;
        let left = self.left();
        match usize::try_from(wanted) {
            Ok(length) if length <= left => {
                let start = self.at;
                self.at += length;
                Ok(self.source.slice(start..self.at))
            }
            _ => Err(self.error(what, DecodeProblem::Truncated { wanted, left })),
        }
    }

    /// A list.
    pub(super) fn list<T: Wire>(&mut self, what: &'static str) -> Result<Vec<T>, DecodeError> {
        let count = self.varint(what)?;
        let left = self.left();
        let fits = (left / T::BYTES_MIN) as u64;
        if count > fits {
            return Err(self.error(what, DecodeProblem::Count { count, left }));
        }
        let mut list = Vec::with_capacity((count as usize).min(RESERVED_MAX));
        for _ in 0..count {
            list.push(T::take(self)?);
        }
        Ok(list)
    }

    /// What a map or a set is read from is in strictly ascending order: it has one form only.
    pub(super) fn ascending<T, K: Ord>(
        &self,
        what: &'static str,
        list: &[T],
        key: impl Fn(&T) -> &K,
    ) -> Result<(), DecodeError> {
        if list.is_sorted_by(|a, b| key(a) < key(b)) {
            return Ok(());
        }
        Err(self.error(what, DecodeProblem::Order))
    }

    /// An option.
    pub(super) fn option<T: Wire>(&mut self, what: &'static str) -> Result<Option<T>, DecodeError> {
        Ok(if self.bool(what)? {
            Some(T::take(self)?)
        } else {
            None
        })
    }

    /// A version byte from 1 to `newest`.
    pub(super) fn version(&mut self, what: &'static str, newest: u8) -> Result<u8, DecodeError> {
        let at = self.at;
        match self.u8(what)? {
            found if (1..=newest).contains(&found) => Ok(found),
            found => Err(DecodeError {
                what,
                at,
                problem: DecodeProblem::UnknownVersion { found, newest },
            }),
        }
    }

    /// The input must be used up.
    pub(super) fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(what, DecodeProblem::Trailing(left))),
        }
    }
}
