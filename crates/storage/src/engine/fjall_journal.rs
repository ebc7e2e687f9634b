//! Cuts a torn tail off a fjall journal.
//!
//! Fjall drops an incomplete batch at the end of its newest journal, but refuses to open one in which a complete
//! looking batch has a wrong checksum. A power loss leaves just that when a page inside a long value was not
//! written and the pages behind it were. Everything up to the last sync is sound then, so the journal is cut
//! before the first batch that is not, and the Raft log replays the rest.
//!
//! The journal does not say how far it was synced. Damage below that point is cut as well and shows as applied
//! indexes that have moved behind what the Raft log still holds.
//!
//! The format (fjall 3), integers little-endian: a batch is `1, count u32, seqno u64`, then items, then `3,
//! checksum u64, "FJL\x03"`. An item is `2, type u8, compression u8, keyspace u64, key length u16, value length
//! u32, stored length u32, key, value`, or `4, keyspace u64`. The checksum is XXH3-64 of the items.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The extension of journals; the rest of the name is their number.
const EXTENSION: &str = "jnl";
const BATCH_HEADER_BYTES: usize = 1 + 4 + 8;
const BATCH_TRAILER: &[u8] = b"FJL\x03";
const BATCH_FOOTER_BYTES: usize = 1 + 8 + BATCH_TRAILER.len();
const ITEM_HEADER_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_BYTES: usize = 1 + 8;

/// The journal that is being written. Older ones were synced when they were closed.
pub(super) fn newest(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let is_journal = file.extension().is_some_and(|extension| extension == EXTENSION);
        let number = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(number)) = (is_journal, number)
            && newest.as_ref().is_none_or(|(newest, _)| number > *newest)
        {
            newest = Some((number, file));
        }
    }
    Ok(newest.map(|(_, file)| file))
}

/// Syncs what the newest journal's file holds, beside a writer.
pub(super) fn sync_newest(path: &Path) -> io::Result<()> {
    match newest(path)?.map(File::open) {
        Some(Ok(file)) => file.sync_data(),
        // Closed and removed in between: it was synced then.
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Some(Err(error)) => Err(error),
        None => Ok(()),
    }
}

/// Cuts the newest journal of a closed database before its first broken batch; returns whether there was one.
pub(super) fn cut_torn_tail(path: &Path) -> io::Result<bool> {
    let Some(file) = newest(path)? else {
        return Ok(false);
    };
    let bytes = fs::read(&file)?;
    let sound = sound_len(&bytes);
    if bytes[sound..].iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let file = OpenOptions::new().write(true).open(file)?;
    file.set_len(sound as u64)?;
    file.sync_all()?;
    Ok(true)
}

/// The length of the longest prefix that consists of sound batches.
fn sound_len(bytes: &[u8]) -> usize {
    let mut sound = 0;
    while let Some(len) = batch_len(&bytes[sound..]) {
        sound += len;
    }
    sound
}

/// The length of the batch at the beginning, if it is sound.
fn batch_len(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != 1 {
        return None;
    }
    let count = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
    let mut at = BATCH_HEADER_BYTES;
    for _ in 0..count {
        at += item_len(bytes.get(at..)?)?;
    }
    let footer = bytes.get(at..at + BATCH_FOOTER_BYTES)?;
    let checksum = u64::from_le_bytes(footer[1..9].try_into().ok()?);
    let is_sound = footer[0] == 3
        && &footer[9..] == BATCH_TRAILER
        && xxhash_rust::xxh3::xxh3_64(&bytes[BATCH_HEADER_BYTES..at]) == checksum;
    is_sound.then_some(at + BATCH_FOOTER_BYTES)
}

fn item_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        2 => {
            let header = bytes.get(..ITEM_HEADER_BYTES)?;
            let key = u16::from_le_bytes(header[11..13].try_into().ok()?);
            let stored = u32::from_le_bytes(header[17..21].try_into().ok()?);
            Some(ITEM_HEADER_BYTES + usize::from(key) + stored as usize)
        }
        4 => Some(CLEAR_BYTES),
        _ => None,
    }
}
