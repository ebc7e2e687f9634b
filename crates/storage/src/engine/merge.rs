//! Ordered reads over several maps of changes and the engine below them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{EngineError, Pair, Pairs};

/// Changes in key order; `None` deletes.
pub(super) type Map = BTreeMap<Bytes, Option<Bytes>>;

/// Where a merge finds the maps.
pub(super) trait Source {
    /// The nearest key in the range, in any map, and what the newest map says of it.
    fn nearest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Option<(Bytes, Option<Bytes>)>;
}

pub(super) fn nearest<'a>(
    maps: impl Iterator<Item = &'a Map>,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    reverse: bool,
) -> Option<(Bytes, Option<Bytes>)> {
    let mut best: Option<(&Bytes, &Option<Bytes>)> = None;
    for map in maps {
        let mut found = map.range::<[u8], _>(range);
        let found = if reverse { found.next_back() } else { found.next() };
        // Newer maps come first, so an equal key of an older one changes nothing.
        if let Some((key, value)) = found
            && best.is_none_or(|(known, _)| if reverse { key > known } else { key < known })
        {
            best = Some((key, value));
        }
    }
    best.map(|(key, value)| (key.clone(), value.clone()))
}

/// Frozen maps, newest first.
impl Source for &[Arc<Map>] {
    fn nearest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Option<(Bytes, Option<Bytes>)> {
        nearest(self.iter().map(|map| &**map), range, reverse)
    }
}

/// What is left of a scan's range; a bound moves past each key that was given.
struct KeyBounds {
    start: Bound<Bytes>,
    end: Bound<Bytes>,
}

impl KeyBounds {
    fn new(start: &[u8], end: &[u8]) -> Self {
        let copy = Bytes::copy_from_slice;
        let end = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(copy(end))
        };
        Self {
            start: Bound::Included(copy(start)),
            end,
        }
    }

    fn get(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.start.as_ref().map(|key| &key[..]),
            self.end.as_ref().map(|key| &key[..]),
        )
    }

    /// Whether nothing is left: the bounds met at a key that was given.
    fn are_closed(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        }
    }
}

/// The maps over fjall, as one ordered view.
pub(super) struct Merge<'a, S> {
    layers: S,
    bounds: KeyBounds,
    reverse: bool,
    below: std::iter::Peekable<Pairs<'a>>,
}

impl<'a, S> Merge<'a, S> {
    /// `below` are the engine's pairs from `start` to `end`, in this order.
    pub(super) fn new(layers: S, below: Pairs<'a>, start: &[u8], end: &[u8], reverse: bool) -> Self {
        Self {
            layers,
            bounds: KeyBounds::new(start, end),
            reverse,
            below: below.peekable(),
        }
    }
}

impl<S: Source> Iterator for Merge<'_, S> {
    type Item = Result<Pair, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let above = if self.bounds.are_closed() {
                None
            } else {
                self.layers.nearest(self.bounds.get(), self.reverse)
            };
            let below_first = match (&above, self.below.peek()) {
                (_, Some(Err(_))) => return self.below.next(),
                (None, _) => return self.below.next(),
                (Some(_), None) => false,
                (Some((above, _)), Some(Ok((below, _)))) => {
                    if self.reverse {
                        below > above
                    } else {
                        below < above
                    }
                }
            };
            if below_first {
                return self.below.next();
            }
            let (key, value) = above?;
            if self
                .below
                .peek()
                .is_some_and(|pair| pair.as_ref().is_ok_and(|(below, _)| *below == key))
            {
                self.below.next(); // an older value
            }
            let passed = Bound::Excluded(key.clone());
            if self.reverse {
                self.bounds.end = passed;
            } else {
                self.bounds.start = passed;
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}
