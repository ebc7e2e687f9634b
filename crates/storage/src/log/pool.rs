//! Files that wait to become segments, and how one becomes a segment.
//!
//! A file gets a segment's name only when its header is durable, so a file with such a name always has a
//! whole header unless it was damaged. Sequence numbers are never used twice (P3).

use quorate_raft::mutant;
use std::io;

use super::segment::{self, HEADER_LEN};
use super::{LogError, LogOptions};
use crate::Identity;
use crate::disk::Disk;

/// A file with a durable header and a durable name, not begun.
pub(super) struct Prepared<F> {
    pub(super) sequence: u64,
    pub(super) file: F,
    pub(super) len: u64,
}

/// A file of the usual length whose content does not matter.
pub(super) struct Spare<F> {
    pub(super) name: String,
    pub(super) file: F,
}

/// The disk and what makes new segments from it.
pub(super) struct Pool<D: Disk> {
    pub(super) disk: D,
    pub(super) identity: Identity,
    pub(super) options: LogOptions,
    pub(super) spares: Vec<Spare<D::File>>,
    /// A spare of the usual length in the making, and how long it is.
    pub(super) filling: Option<(Spare<D::File>, u64)>,
    /// Above that of every file in the directory.
    pub(super) next_sequence: u64,
}

/// Attaches the file and the action to a device's error.
pub(super) fn at<'a>(file: &'a str, action: &'static str) -> impl FnOnce(io::Error) -> LogError + 'a {
    move |source| LogError {
        file: file.to_string(),
        action,
        source,
    }
}

/// A new file is filled and synced in steps of this size, so that a write that comes meanwhile waits for one of
/// them only. Each step costs a sync, a few milliseconds at most on a disk that is worth it.
const FILL_STEP_BYTES: u64 = 1 << 20;
/// Small segments, as tests have them, are filled in steps as well.
const FILL_STEPS_MIN: u64 = 3;

impl<D: Disk> Pool<D> {
    /// Does one step towards a segment of the usual length; gives it once it is ready.
    pub(super) fn prepare_step(&mut self) -> Result<Option<Prepared<D::File>>, LogError> {
        if self.fill_spare()? {
            self.prepare(self.options.segment_bytes).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Does one step towards a spare of the usual length; returns whether there is one now.
    fn fill_spare(&mut self) -> Result<bool, LogError> {
        if !self.spares.is_empty() {
            return Ok(true);
        }
        let (spare, filled) = match self.filling.take() {
            Some(filling) => filling,
            None => {
                let name = segment::spare_name(self.next_sequence);
                self.next_sequence += 1;
                (self.create(name, 0)?, 0)
            }
        };
        let step = FILL_STEP_BYTES.min(self.options.segment_bytes / FILL_STEPS_MIN);
        let len = (filled + step).min(self.options.segment_bytes);
        let filled = self.disk.extend(&spare.file, len);
        if let Err(source) = filled.and_then(|()| self.disk.sync(&spare.file)) {
            return Err(self.failed_to_allocate(spare.name, source));
        }
        if len == self.options.segment_bytes {
            self.spares.push(spare);
            return Ok(true);
        }
        self.filling = Some((spare, len));
        Ok(false)
    }

    /// Makes a segment ready for use from a spare or from new space. Durable when it returns.
    pub(super) fn prepare(&mut self, len: u64) -> Result<Prepared<D::File>, LogError> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let spare = if len != self.options.segment_bytes {
            None
        } else if let Some(spare) = self.spares.pop() {
            Some(spare)
        } else if let Some((spare, _)) = self.filling.take() {
            if let Err(source) = self.disk.extend(&spare.file, len) {
                return Err(self.failed_to_allocate(spare.name, source));
            }
            Some(spare)
        } else {
            None
        };
        let Spare { name: old_name, file } = match spare {
            Some(spare) => spare,
            None => self.create(segment::spare_name(sequence), len)?,
        };
        let header = segment::encode_header(&self.identity, sequence);
        self.disk
            .write_at(&file, 0, &header)
            .map_err(at(&old_name, "writing the header"))?;
        self.disk
            .sync(&file)
            .map_err(at(&old_name, "syncing the header"))?;
        let name = segment::name(sequence);
        self.disk
            .rename(&old_name, &name)
            .map_err(at(&name, "naming the segment"))?;
        if !mutant!("segment-name-not-synced") {
            self.disk.sync_dir().map_err(at(&name, "syncing the directory"))?;
        }
        Ok(Prepared { sequence, file, len })
    }

    fn create(&self, name: String, len: u64) -> Result<Spare<D::File>, LogError> {
        match self.disk.create(&name, len) {
            Ok(file) => Ok(Spare { name, file }),
            Err(source) => Err(self.failed_to_allocate(name, source)),
        }
    }

    fn failed_to_allocate(&self, file: String, source: io::Error) -> LogError {
        // A file that was made in part takes up the space that is missing. If it cannot be removed either, the
        // next open does it.
        let _ = self.disk.remove(&file);
        LogError {
            file,
            action: "allocating a segment",
            source,
        }
    }

    /// Takes a segment's file out of use: it becomes a spare or is removed. Its records must not be needed,
    /// and what made them dead must be durable. The change is durable when this returns, because a spare's
    /// header is overwritten and must not be found under the segment's name again.
    pub(super) fn retire(&mut self, sequence: u64, file: D::File, len: u64) -> Result<(), LogError> {
        let name = segment::name(sequence);
        let keep =
            len == self.options.segment_bytes && self.spares.len() < self.options.recycled_segments_max;
        if keep {
            let spare = segment::spare_name(sequence);
            self.disk
                .rename(&name, &spare)
                .map_err(at(&name, "recycling the segment"))?;
            self.spares.push(Spare { name: spare, file });
        } else {
            drop(file);
            self.disk
                .remove(&name)
                .map_err(at(&name, "removing the segment"))?;
        }
        self.disk.sync_dir().map_err(at(&name, "syncing the directory"))
    }

    /// Removes spares above the number that is kept.
    pub(super) fn trim(&mut self) -> Result<(), LogError> {
        while self.spares.len() > self.options.recycled_segments_max {
            let Some(Spare { name, file }) = self.spares.pop() else {
                break;
            };
            drop(file);
            self.disk.remove(&name).map_err(at(&name, "removing a spare"))?;
        }
        Ok(())
    }
}

/// The smallest segment that can hold anything.
pub(super) const SEGMENT_BYTES_MIN: u64 = 4 * HEADER_LEN as u64;
