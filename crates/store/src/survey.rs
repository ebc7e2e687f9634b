//! How large shards are: leaders count what theirs hold, one shard at a time and a slice at a tick, and add what is
//! written until they count again. Nothing is decided by it but what schedulers and operators look at.

use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::kv::Space;
use crate::replica::Replica;
use crate::store::Store;

/// Pairs, and bytes of pairs, counted in a tick: so little that it is never noticed.
const SLICE_PAIRS: usize = 256;
const SLICE_BYTES: u64 = 128 << 10;
/// A shard is counted again when this much was written to it, or half of what it holds if that is more.
const WRITTEN_MIN: u64 = 1 << 20;
/// Ticks between two looks for a shard that is to be counted.
const LOOK_TICKS: u64 = 4;

/// What is known of a shard's size.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Size {
    /// What was counted, and of what: the version of the shard and its data space.
    counted: Option<(u64, (u64, Space))>,
    /// Bytes of entries that were applied since.
    written: u64,
}

impl Size {
    /// An entry of so many bytes was applied.
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Bytes of keys and values, roughly.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.counted.map(|(bytes, _)| bytes.saturating_add(self.written))
    }
}

/// What a count is of: a shard that was split or flushed is another.
fn object(replica: &Replica) -> (u64, Space) {
    (replica.descriptor.epoch.version, replica.descriptor.space)
}

/// A count under way.
#[derive(Debug)]
pub(crate) struct Survey {
    shard: ShardId,
    of: (u64, Space),
    /// The engine key behind which it goes on.
    after: Option<Vec<u8>>,
    bytes: u64,
    /// What had been written when it began.
    written: u64,
}

impl<E: Engine> Store<E> {
    /// Goes on counting.
    pub(crate) fn survey_tick(&mut self) -> Result<(), StoreError> {
        let Some(mut survey) = self.survey.take() else {
            if self.ticks.is_multiple_of(LOOK_TICKS) {
                self.survey = self.next_survey();
            }
            return Ok(());
        };
        let Some(at) = self.router.replica_of(survey.shard) else {
            return Ok(());
        };
        let replica = &self.replicas[at];
        if !replica.serves() || object(replica) != survey.of {
            return Ok(());
        }
        let (mut start, end) = replica.descriptor.spaces().data_range();
        if let Some(after) = &survey.after {
            start.clone_from(after);
            start.push(0); // the least key behind it
        }
        let (mut pairs, mut bytes) = (0, 0);
        for pair in self.engine.scan(&start, &end) {
            let (key, value) = pair?;
            pairs += 1;
            bytes += (key.len() + value.len()) as u64;
            if pairs >= SLICE_PAIRS || bytes >= SLICE_BYTES {
                survey.after = Some(key.to_vec());
                survey.bytes += bytes;
                self.survey = Some(survey);
                return Ok(());
            }
        }
        let size = &mut self.replicas[at].size;
        size.counted = Some((survey.bytes + bytes, survey.of));
        size.written -= survey.written;
        Ok(())
    }

    /// The shard whose count is the most out of date.
    fn next_survey(&self) -> Option<Survey> {
        let outdated = |replica: &&Replica| match replica.size.counted {
            Some((bytes, of)) if of == object(replica) => replica.size.written > WRITTEN_MIN.max(bytes / 2),
            _ => true,
        };
        let led = self.replicas.iter().filter(|replica| replica.serves());
        let replica = led.filter(outdated).max_by_key(|replica| replica.size.written)?;
        Some(Survey {
            shard: replica.descriptor.shard,
            of: object(replica),
            after: None,
            bytes: 0,
            written: replica.size.written,
        })
    }
}
