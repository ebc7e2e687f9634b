//! How much the slots of a shard hold, found out a slice at a time, so that a look never holds up a turn.
//!
//! A look that decides whether a shard is too large counts every pair. One for a split by hand only has to find about a
//! half, and somebody waits for it: it counts the first slices, which is all of a small shard, and then samples.

use bytes::Bytes;

use crate::kv;

/// Pairs, and bytes of pairs, in a slice.
const SLICE_PAIRS: usize = 2_048;
const SLICE_BYTES: u64 = 1 << 20;
/// Slices that are counted before sampling begins, and slots that are sampled then, each of which is a slice at most.
const SLICES_COUNTED: u32 = 16;
const SAMPLES: u16 = 32;

/// Where a look goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Next {
    /// At the shard's first pair.
    #[default]
    First,
    /// Behind this key of the engine.
    Behind(Vec<u8>),
    /// At the first pair of this slot.
    Slot(u16),
}

/// A look at a shard's data, in the order of its slots.
#[derive(Debug, Default)]
pub(crate) struct Look {
    next: Next,
    /// Slots that hold something, and how many bytes; a sample stands for all slots up to the next one.
    sizes: Vec<(u16, u64)>,
    slices: u32,
    /// Every how many slots one is looked at, once it samples.
    stride: Option<u16>,
}

impl Look {
    pub(crate) fn next(&self) -> &Next {
        &self.next
    }

    pub(crate) fn total(&self) -> u64 {
        self.sizes.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Takes the next slice of `pairs`, which begin at [`Look::next`]; returns whether these were the last. `end_slot` is
    /// the shard's.
    pub(crate) fn slice<E>(
        &mut self,
        pairs: impl Iterator<Item = Result<(Bytes, Bytes), E>>,
        end_slot: u16,
        may_sample: bool,
    ) -> Result<bool, E> {
        let (mut count, mut bytes) = (0, 0);
        for pair in pairs {
            let (key, value) = pair?;
            let Some(slot) = kv::slot_of_data_key(&key) else {
                continue;
            };
            let size = (key.len() + value.len()) as u64;
            let weight = u64::from(self.stride.unwrap_or(1));
            match (self.sizes.last_mut(), self.stride) {
                (Some((last, sum)), _) if *last == slot => *sum += size * weight,
                (Some((last, _)), Some(stride)) if count > 0 => {
                    // The sample is whole.
                    self.next = Next::Slot(last.saturating_add(stride));
                    return Ok(false);
                }
                _ => self.sizes.push((slot, size * weight)),
            }
            count += 1;
            bytes += size;
            if count < SLICE_PAIRS && bytes < SLICE_BYTES {
                continue;
            }
            self.slices += 1;
            self.next = if may_sample && self.slices >= SLICES_COUNTED {
                let every = (end_slot.saturating_sub(slot) / SAMPLES).max(1);
                Next::Slot(slot.saturating_add(*self.stride.get_or_insert(every)))
            } else {
                Next::Behind(key.to_vec())
            };
            return Ok(false);
        }
        Ok(true)
    }

    /// The slot, behind the first one that holds something, before which the part nearest to a half lies. None if all of
    /// it is in one slot.
    pub(crate) fn halfway(&self) -> Option<u16> {
        let total = self.total();
        let mut before = 0;
        let mut cuts = Vec::with_capacity(self.sizes.len());
        for (slot, bytes) in &self.sizes {
            cuts.push((before.max(total - before) - total / 2, *slot));
            before += bytes;
        }
        cuts.into_iter().skip(1).min().map(|(_, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// PS-06, in slots: pairs of 21 bytes, at most 100 in a shard. The cut is behind the first pairs that come nearest
    /// to a half, and never inside a slot.
    #[test]
    fn ps_06_a_shard_is_cut_halfway_and_never_inside_a_slot() {
        let halfway = |sizes: &[(u16, u64)]| {
            let sizes = sizes.to_vec();
            Look {
                sizes,
                ..Look::default()
            }
            .halfway()
        };
        let sizes = |slots: &[u16]| -> Vec<(u16, u64)> { slots.iter().map(|slot| (*slot, 21)).collect() };
        assert_eq!(halfway(&sizes(&[0, 1, 2, 3, 4])), Some(2));
        assert_eq!(halfway(&sizes(&[0, 1])), Some(1));
        assert_eq!(halfway(&sizes(&[7])), None, "one slot cannot be divided");
        assert_eq!(halfway(&[]), None);
        assert_eq!(
            halfway(&[(0, 21), (9, 2100), (10, 21)]),
            Some(9),
            "before the large one"
        );
        assert_eq!(halfway(&[(3, 2100), (9, 21)]), Some(9), "behind it");
    }

    /// The `n`th key of a slot.
    fn key_in(slot: u16, n: u16) -> Bytes {
        let only = Some((slot, slot + 1));
        let spaces = kv::Spaces {
            only,
            ..kv::Space(1).into()
        };
        let mut key = spaces.data_range().0;
        let hash_end = key.len() - 2;
        key.truncate(hash_end);
        key.extend_from_slice(&n.to_be_bytes());
        key.push(b'k');
        key.into()
    }

    /// Slices until the end over slots `[0, end_slot)`, each of which holds as many pairs of 4 KiB as `pairs_of` says.
    fn look(end_slot: u16, may_sample: bool, pairs_of: impl Fn(u16) -> u16) -> (Look, u32) {
        let value = Bytes::from(vec![0; 4096]);
        let all: Vec<(Bytes, Bytes)> = (0..end_slot)
            .flat_map(|slot| (0..pairs_of(slot)).map(move |n| (slot, n)))
            .map(|(slot, n)| (key_in(slot, n), value.clone()))
            .collect();
        let mut look = Look::default();
        for slices in 1.. {
            let from = match look.next() {
                Next::First => 0,
                Next::Behind(key) => all.partition_point(|(of, _)| of[..] <= key[..]),
                Next::Slot(slot) => all.partition_point(|(of, _)| kv::slot_of_data_key(of) < Some(*slot)),
            };
            let pairs = all[from..].iter().cloned().map(Ok::<_, Infallible>);
            let Ok(ended) = look.slice(pairs, end_slot, may_sample);
            if ended {
                return (look, slices);
            }
        }
        unreachable!("the numbers do not end")
    }

    /// A shard of 1 GiB could not be split by hand: the look took longer than a request may, and each attempt began anew.
    #[test]
    fn a_look_by_hand_ends_soon_however_large_the_shard_is() {
        let (large, slices) = look(2048, true, |_| 40);
        assert!(
            slices <= SLICES_COUNTED + u32::from(SAMPLES) + 2,
            "{slices} slices"
        );
        let cut = large.halfway().unwrap();
        assert!((900..1150).contains(&cut), "{cut}");

        let (uneven, slices) = look(2048, true, |slot| if slot < 1536 { 2 } else { 60 });
        assert!(
            slices <= SLICES_COUNTED + u32::from(SAMPLES) + 2,
            "{slices} slices"
        );
        let cut = uneven.halfway().unwrap();
        assert!((1650..1900).contains(&cut), "{cut}");

        let (one, slices) = look(64, true, |slot| if slot == 7 { 20_000 } else { 0 });
        assert!(slices <= SLICES_COUNTED + 2, "{slices} slices");
        assert_eq!(one.halfway(), None);
    }

    #[test]
    fn a_look_counts_all_of_a_small_shard_and_all_of_any_shard_for_a_bound() {
        for (end_slot, may_sample, each) in [(300, true, 10), (2048, false, 40)] {
            let (counted, _) = look(end_slot, may_sample, |_| each);
            assert_eq!(counted.stride, None);
            assert_eq!(counted.sizes.len(), usize::from(end_slot));
            assert!(counted.total() >= u64::from(end_slot) * u64::from(each) * 4096);
            assert_eq!(counted.halfway(), Some(end_slot / 2));
        }
    }
}
