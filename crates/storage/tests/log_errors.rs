//! What an operator is told: each way in which the log cannot be opened or written has its own text, which
//! names the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log_common;

use log_common::*;
use quorate_storage::disk::{Disk, Fault, RealDisk, SimDisk};
use quorate_storage::log::{OpenError, RaftLog};
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};

const SEGMENT: u64 = 4096;

fn open_error(disk: &SimDisk, identity: Identity) -> OpenError {
    match RaftLog::open(disk.clone(), identity, options(SEGMENT)) {
        Ok(_) => panic!("the log opened"),
        Err(error) => error,
    }
}

/// Replaces bytes of a file, durably.
fn overwrite(disk: &SimDisk, name: &str, offset: u64, bytes: &[u8]) {
    let file = disk.open(name).unwrap();
    disk.write_at(&file, offset, bytes).unwrap();
    disk.sync(&file).unwrap();
}

fn disk_with_a_log() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [hard_state(1, 5, 1, 0), append(1, 1, 3, 1)]);
    disk
}

#[test]
fn another_stores_log_is_refused() {
    let disk = disk_with_a_log();
    for other in [
        Identity {
            cluster: ClusterId(8),
            ..identity()
        },
        Identity {
            store: StoreId(2),
            ..identity()
        },
        Identity {
            incarnation: Incarnation(43),
            ..identity()
        },
    ] {
        let error = open_error(&disk, other);
        assert!(matches!(error, OpenError::WrongStore { .. }), "{error:?}");
        let text = error.to_string();
        let ours = "store 1 of cluster 00000000000000000000000000000007 (incarnation \
                    0000000000000000000000000000002a)";
        assert!(
            text.starts_with(&format!("raft-0000000000000001.log: belongs to {ours}, this is ")),
            "{text}"
        );
    }
    assert_eq!(
        open(&disk, SEGMENT).1.shards[&ShardId(1)].entries.len(),
        3,
        "refusing changed the log"
    );
}

#[test]
fn a_newer_format_is_refused() {
    let disk = disk_with_a_log();
    let name = newest_segment(&disk);
    let mut header = disk.visible()[&name][..512].to_vec();
    header[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    overwrite(&disk, &name, 0, &header);
    let error = open_error(&disk, identity());
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("{name}: format version 2 is newer than 1, the newest that this program reads")
    );
}

#[test]
fn a_damaged_header_is_refused() {
    for byte in [9, 13, 20, 40, 50, 60, 511] {
        let disk = disk_with_a_log();
        let name = newest_segment(&disk);
        disk.flip_bit(&name, 8 * byte);
        let error = open_error(&disk, identity());
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "byte {byte}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            format!("{name}: the segment's header is damaged"),
            "byte {byte}"
        );
    }
}

#[test]
fn a_file_that_is_no_log_is_refused() {
    let disk = disk_with_a_log();
    let name = "raft-0000000000000009.log";
    let file = disk.create(name, 5000).unwrap();
    disk.write_at(&file, 0, b"dear diary").unwrap();
    assert_eq!(
        open_error(&disk, identity()).to_string(),
        format!("{name}: is not a Raft log segment")
    );
}

#[test]
fn a_file_that_is_too_short_is_refused() {
    let disk = disk_with_a_log();
    disk.create("raft-0000000000000009.log", 100).unwrap();
    let text = open_error(&disk, identity()).to_string();
    assert_eq!(
        text,
        "raft-0000000000000009.log: is shorter than a segment's header"
    );
}

#[test]
fn a_file_of_another_name_is_left_alone() {
    let disk = disk_with_a_log();
    disk.create("notes.txt", 10).unwrap();
    open(&disk, SEGMENT);
    assert!(disk.visible().contains_key("notes.txt"));
}

#[test]
fn a_renamed_segment_is_refused() {
    let disk = disk_with_a_log();
    disk.rename(&newest_segment(&disk), "raft-0000000000000009.log")
        .unwrap();
    let text = open_error(&disk, identity()).to_string();
    assert_eq!(
        text,
        "raft-0000000000000009.log: the header says that this is segment 0000000000000001"
    );
}

#[test]
fn a_damaged_begin_record_is_refused_when_it_is_known_to_have_been_there() {
    let disk = disk_with_a_log();
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [append(1, 4, 1, 1)]);
    let name = newest_segment(&disk);
    disk.flip_bit(&name, 8 * (512 + 10));
    let text = open_error(&disk, identity()).to_string();
    assert_eq!(text, format!("{name}: the segment's begin record is damaged"));
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    for index in (1..200).step_by(5) {
        commit(&mut log, [append(1, index, 5, 1)]);
    }
    let segments: Vec<String> = disk
        .visible()
        .into_keys()
        .filter(|name| name.starts_with("raft"))
        .collect();
    assert!(segments.len() > 4);
    disk.remove(&segments[2]).unwrap();
    let text = open_error(&disk, identity()).to_string();
    assert_eq!(
        text,
        format!("{}: is missing, although {} is there", segments[2], segments[1])
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("in_use");
    let first = RealDisk::open(&path).unwrap();
    let text = RealDisk::open(&path).unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "{}: the directory is in use by another process",
            path.join("LOCK").display()
        )
    );
    drop(first);
    RealDisk::open(&path).unwrap();
}

#[test]
fn a_disk_that_fills_up_in_a_write_stops_the_log() {
    let disk = disk_with_a_log();
    let (mut log, before) = open(&disk, SEGMENT);
    disk.fail_write(1, Fault::NoSpace);
    let error = log.write(&batch([append(1, 4, 2, 1)])).unwrap_err();
    let name = newest_segment(&disk);
    assert_eq!(
        error.to_string(),
        format!("Raft log {name}: writing failed: no space left (injected)")
    );
    let error = log.sync().unwrap_err().to_string();
    let retried = "an earlier operation failed and nothing is retried (P2)";
    assert_eq!(error, format!("Raft log {name}: writing failed: {retried}"));
    drop(log);
    disk.process_kill();
    assert_eq!(model_of(&open(&disk, SEGMENT).1), model_of(&before));
}

/// H1: below the low-space mark the store goes on appending from the segments that there are.
#[test]
fn a_disk_without_room_for_the_next_segment_stops_the_log_only_when_the_room_is_used_up() {
    let disk = disk_with_a_log();
    let (mut log, _) = open(&disk, SEGMENT);
    disk.fail_creates(Some(Fault::NoSpace));
    let mut index = 4;
    let mut told = false;
    let error = loop {
        log.maintain().unwrap();
        told |= log.is_disk_full();
        match log.write(&batch([append(1, index, 1, 1)])) {
            Ok(()) => index += 1,
            Err(error) => break error.to_string(),
        }
        log.sync().unwrap();
    };
    assert!(told && index > 20, "only {index} entries");
    assert!(
        error.ends_with("log: allocating a segment failed: no space left (injected)"),
        "{error}"
    );
    drop(log);
    disk.process_kill();
    let (mut log, recovered) = open(&disk, SEGMENT);
    assert_eq!(recovered.shards[&ShardId(1)].entries.len() as u64, index - 1);
    maintain_all(&mut log);
    assert!(!log.is_disk_full());
}

#[test]
fn a_failed_sync_stops_the_log() {
    let disk = disk_with_a_log();
    let (mut log, _) = open(&disk, SEGMENT);
    disk.fail_sync(1, Fault::Device);
    log.write(&batch([append(1, 4, 2, 1)])).unwrap();
    let error = log.sync().unwrap_err();
    let name = newest_segment(&disk);
    assert_eq!(
        error.to_string(),
        format!("Raft log {name}: syncing failed: input/output error (injected)")
    );
    for _ in 0..3 {
        assert!(log.sync().is_err() && log.maintain().is_err());
        assert!(log.write(&batch([append(1, 6, 1, 1)])).is_err());
    }
}

#[test]
fn a_batch_that_leaves_a_gap_is_refused_before_anything_is_written() {
    let disk = disk_with_a_log();
    let (mut log, before) = open(&disk, SEGMENT);
    let writes = disk.counts().writes;
    let error = log.write(&batch([append(1, 5, 1, 1)])).unwrap_err().to_string();
    assert!(
        error.ends_with("checking a batch failed: shard 1: entries from 5 leave a gap"),
        "{error}"
    );
    assert_eq!(disk.counts().writes, writes);
    assert_eq!(model_of(&open(&disk, SEGMENT).1), model_of(&before));
}
