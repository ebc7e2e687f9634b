//! The rules of persistence (P), one by one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log_common;

use log_common::*;
use quorate_storage::ShardId;
use quorate_storage::disk::{Fault, SimDisk};
use quorate_storage::log::{RaftLog, Recovered};

const SEGMENT: u64 = 8192;
const FRAMES_AT: usize = 1024;
const MARK: &[u8] = b"QLfr";

fn quarantined(recovered: &Recovered) -> Vec<u64> {
    recovered
        .shards
        .iter()
        .filter(|(_, shard)| shard.quarantined)
        .map(|(id, _)| id.0)
        .collect()
}

/// Where the frames of a segment begin; old ones that are still lying about are counted too.
fn marks(disk: &SimDisk, name: &str) -> Vec<usize> {
    let bytes = &disk.visible()[name];
    (FRAMES_AT..bytes.len() - 4)
        .step_by(8)
        .filter(|at| &bytes[*at..*at + 4] == MARK)
        .collect()
}

#[test]
fn p1_recovered_tail_is_synced_before_open_returns() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, SEGMENT);
        commit(&mut log, [append(1, 1, 3, 1)]);
        log.write(&batch([append(1, 4, 2, 1), hard_state(1, 5, 1, 4)]))
            .unwrap();
        drop(log);
        disk.process_kill();
        let shown = open(&disk, SEGMENT).1;
        assert_eq!(
            shown.shards[&ShardId(1)].entries.len(),
            5,
            "kill -9 keeps what was written"
        );
        disk.crash(seed);
        assert_eq!(
            model_of(&open(&disk, SEGMENT).1),
            model_of(&shown),
            "seed {seed}: vouched for, then lost"
        );
    }
}

#[test]
fn p1_a_recovered_begin_record_is_synced_too() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, 2048);
        commit(&mut log, [append(1, 1, 3, 1)]);
        let first = newest_segment(&disk);
        let mut index = 4;
        while newest_segment(&disk) == first {
            log.write(&batch([append(1, index, 3, 1)])).unwrap();
            index += 3;
        }
        disk.process_kill();
        let shown = open(&disk, 2048).1;
        assert_eq!(shown.shards[&ShardId(1)].entries.len() as u64, index - 1);
        disk.crash(seed);
        assert_eq!(
            model_of(&open(&disk, 2048).1),
            model_of(&shown),
            "seed {seed}: vouched for, then lost"
        );
    }
}

#[test]
fn p2_after_a_failed_sync_the_tail_is_rewritten_before_use() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, SEGMENT);
        commit(&mut log, [append(1, 1, 3, 1)]);
        log.write(&batch([append(1, 4, 2, 1)])).unwrap();
        disk.fail_sync(1, Fault::Device);
        assert!(log.sync().is_err());
        assert!(log.sync().is_err(), "acknowledged after a failed sync");
        drop(log);
        if seed % 2 == 0 {
            // The page cache still shows the tail, and the device may not have it.
            disk.process_kill();
            let shown = open(&disk, SEGMENT).1;
            assert_eq!(shown.shards[&ShardId(1)].entries.len(), 5);
            disk.crash(seed);
            assert_eq!(model_of(&open(&disk, SEGMENT).1), model_of(&shown), "seed {seed}");
        } else {
            disk.crash(seed);
            let entries = open(&disk, SEGMENT).1.shards[&ShardId(1)].entries.len();
            assert!(entries == 3 || entries == 5);
            lost += u32::from(entries == 3);
        }
    }
    assert!(lost > 5, "the simulated disk never lost what was in doubt");
}

#[test]
fn p2_a_failed_sync_at_rotation_leaves_no_later_segment() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, 2048);
    log.write(&batch([append(1, 1, 8, 1)])).unwrap();
    // The header of the next segment is synced by the housekeeping, so the next sync is that of the full one.
    maintain_all(&mut log);
    disk.fail_sync(1, Fault::Device);
    let first = newest_segment(&disk);
    assert!(log.write(&batch([append(1, 9, 8, 1)])).is_err());
    let next = disk.visible()[&first][512..].to_vec();
    assert!(
        next.iter().all(|byte| *byte == 0),
        "a segment was begun although the one before was not synced"
    );
}

#[test]
fn p3_torn_tail_is_cut_and_nobody_is_quarantined() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [append(1, 1, 3, 1)]);
    log.write(&batch([append(2, 1, 3, 1)])).unwrap();
    log.write(&batch([append(3, 1, 3, 1)])).unwrap();
    let name = newest_segment(&disk);
    let torn = marks(&disk, &name)[1];
    disk.flip_bit(&name, 8 * (torn as u64 + 100));
    disk.process_kill();
    let (_, recovered) = open(&disk, SEGMENT);
    assert_eq!(
        recovered.shards.keys().copied().collect::<Vec<_>>(),
        [ShardId(1)],
        "a frame behind the hole counted"
    );
    assert_eq!(quarantined(&recovered), [0; 0]);
    assert!(!recovered.unlisted_quarantined);
    let note = format!("{name}: torn tail: 2 frames from offset {torn} on were not synced and are void");
    assert_eq!(recovered.notes, [note]);
}

#[test]
fn p3_frames_behind_a_torn_one_stay_void_for_ever() {
    // The frame that takes the torn one's place in the log has the same length, so the void one behind it
    // would follow it exactly if it were written to the same place.
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [append(1, 1, 3, 1)]);
    log.write(&batch([append(2, 1, 3, 1)])).unwrap();
    log.write(&batch([append(3, 1, 3, 1)])).unwrap();
    let name = newest_segment(&disk);
    disk.flip_bit(&name, 8 * (marks(&disk, &name)[1] as u64 + 100));
    disk.process_kill();
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [append(4, 1, 3, 1)]);
    let recovered = open(&disk, SEGMENT).1;
    assert_eq!(
        recovered.shards.keys().map(|shard| shard.0).collect::<Vec<_>>(),
        [1, 4]
    );
}

/// Three synced batches on shards 1, 2 and 3; the third proves that the second was synced.
fn three_batches(disk: &SimDisk) -> (String, Vec<usize>) {
    let (mut log, _) = open(disk, SEGMENT);
    for shard in 1..=3 {
        commit(&mut log, [hard_state(shard, shard, 1, 0), append(shard, 1, 3, 1)]);
    }
    let name = newest_segment(disk);
    let marks = marks(disk, &name);
    assert_eq!(marks.len(), 3);
    (name, marks)
}

#[test]
fn p3_damage_below_a_synced_offset_quarantines_the_shards_that_it_hit() {
    let disk = SimDisk::new(1);
    let (name, marks) = three_batches(&disk);
    disk.flip_bit(&name, 8 * (marks[1] as u64 + 60));
    let recovered = open(&disk, SEGMENT).1;
    assert_eq!(quarantined(&recovered), [2]);
    assert!(!recovered.unlisted_quarantined);
    assert_eq!(
        recovered.shards[&ShardId(3)].entries.len(),
        3,
        "the frame behind the damage is whole"
    );
    let (start, end) = (marks[1], marks[2]);
    let note = format!(
        "{name}: damage at offsets {start} to {end}, which were synced; it may have hit shards 2: quarantined"
    );
    assert_eq!(recovered.notes, [note]);
}

#[test]
fn p3_damage_of_unknown_owner_quarantines_all_shards_and_those_not_listed() {
    let disk = SimDisk::new(1);
    let (name, marks) = three_batches(&disk);
    disk.flip_bit(&name, 8 * (marks[1] as u64 + 20));
    let recovered = open(&disk, SEGMENT).1;
    // Shard 2 is not listed any more, so the engine's word counts.
    assert_eq!(quarantined(&recovered), [1, 3]);
    assert!(recovered.unlisted_quarantined);
    assert!(
        recovered.notes[0].contains("it may have hit any shard"),
        "{:?}",
        recovered.notes
    );
}

#[test]
fn p3_damage_in_a_segment_that_is_followed_by_another_is_no_torn_tail() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    let first = newest_segment(&disk);
    let mut index = 1;
    while newest_segment(&disk) == first {
        commit(&mut log, [append(1, index, 5, 1), append(2, index, 5, 1)]);
        index += 5;
    }
    // The last frame of the first segment: no frame in it knows that this one was synced.
    let last = *marks(&disk, &first).last().unwrap();
    disk.flip_bit(&first, 8 * (last as u64 + 80));
    assert_eq!(quarantined(&open(&disk, SEGMENT).1), [1, 2]);
}

#[test]
fn p3_a_quarantine_outlives_restarts_and_the_damaged_segment() {
    let disk = SimDisk::new(1);
    let (name, marks) = three_batches(&disk);
    disk.flip_bit(&name, 8 * (marks[1] as u64 + 20));
    let (mut log, _) = open(&disk, SEGMENT);
    // Shard 9 is born after the damage was found, so it cannot have been hit.
    commit(&mut log, [hard_state(9, 9, 1, 0), append(9, 1, 3, 1)]);
    let mut index = 4;
    for _ in 0..40 {
        for _ in 0..10 {
            // Shard 1 goes on writing hard states, so the newest one is never where the suspicion is noted.
            let ops = [
                append(9, index, 3, 1),
                compact(9, index + 1, 1),
                hard_state(1, 1, index, 0),
            ];
            commit(&mut log, ops);
            index += 3;
        }
        maintain_all(&mut log);
    }
    assert!(
        !disk.visible().contains_key(&name),
        "the damaged segment is still there"
    );
    for _ in 0..3 {
        let recovered = open(&disk, SEGMENT).1;
        assert_eq!(quarantined(&recovered), [1, 3]);
        assert!(recovered.unlisted_quarantined);
    }
}

#[test]
fn p3_a_shard_born_after_the_damage_was_found_is_not_quarantined() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    for n in 0..12 {
        commit(&mut log, [append(1, 3 * n + 1, 3, 1)]);
    }
    let name = newest_segment(&disk);
    disk.flip_bit(&name, 8 * (marks(&disk, &name)[5] as u64 + 20));
    let (mut log, recovered) = open(&disk, SEGMENT);
    assert_eq!(
        recovered.shards[&ShardId(1)].entries.len(),
        15,
        "entries behind the gap count"
    );
    commit(&mut log, [hard_state(9, 9, 1, 0), append(9, 1, 3, 1)]);
    for _ in 0..2 {
        let recovered = open(&disk, SEGMENT).1;
        assert!(
            disk.visible().contains_key(&name),
            "the damaged segment is gone, and with it the question"
        );
        assert_eq!(quarantined(&recovered), [1]);
    }
}

#[test]
fn p3_a_quarantine_ends_with_a_reset_and_a_hard_state_or_a_tombstone() {
    let disk = SimDisk::new(1);
    let (name, marks) = three_batches(&disk);
    disk.flip_bit(&name, 8 * (marks[1] as u64 + 20));
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [reset(1, 10, 2)]);
    drop(log);
    let (mut log, recovered) = open(&disk, SEGMENT);
    assert_eq!(
        quarantined(&recovered),
        [1, 3],
        "the lost hard state is not replaced yet"
    );
    commit(&mut log, [hard_state(1, 1, 2, 10), hard_state(3, 3, 2, 3)]);
    drop(log);
    let (mut log, recovered) = open(&disk, SEGMENT);
    assert_eq!(
        quarantined(&recovered),
        [3],
        "the lost entries are not replaced yet"
    );
    commit(&mut log, [tombstone(3, 3)]);
    drop(log);
    assert_eq!(quarantined(&open(&disk, SEGMENT).1), [0; 0]);
}

#[test]
fn p3_recycled_segment_never_yields_old_records() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, 4096);
    let mut index = 1;
    let mut seen = 0;
    for _ in 0..600 {
        // Batches of one length: an old frame begins where each new one ends.
        commit(&mut log, [append(1, index, 2, 1), compact(1, index, 1)]);
        index += 2;
        maintain_all(&mut log);
        let name = newest_segment(&disk);
        let (recycled, frames) = (disk.visible(), marks(&disk, &name));
        let end = frames.iter().find(|at| {
            let frame = &recycled[&name][**at..];
            // The payload begins with its index: an old frame's is lower.
            let at = frame.len().min(32 + 8 + 24 + 13);
            let found = u64::from_le_bytes(frame[at..at + 8].try_into().unwrap());
            found + 40 < index
        });
        if end.is_some() {
            seen += 1;
            disk.process_kill();
            let (opened, recovered) = open(&disk, 4096);
            log = opened;
            let entries = &recovered.shards[&ShardId(1)].entries;
            assert_eq!(
                entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>(),
                [index - 1]
            );
            assert_eq!((quarantined(&recovered), recovered.notes), (vec![], vec![]));
        }
    }
    assert!(
        seen > 20,
        "only {seen} recycled segments had old records behind the new ones"
    );
}

#[test]
fn p8_every_file_begins_with_magic_version_and_identity() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, 4096);
    for index in 1..100 {
        commit(&mut log, [append(1, index, 1, 1)]);
    }
    commit(&mut log, [compact(1, 99, 1)]);
    maintain_all(&mut log);
    let files = disk.visible();
    assert!(
        files.keys().any(|name| name.starts_with("spare-")),
        "no spare to look at"
    );
    for (name, bytes) in files {
        let mut expected = b"QUORLOG\n".to_vec();
        expected.extend(1_u32.to_le_bytes());
        assert_eq!(bytes[..12], expected, "{name}");
        let mut expected = 7_u128.to_le_bytes().to_vec();
        expected.extend(42_u128.to_le_bytes());
        expected.extend(1_u64.to_le_bytes());
        assert_eq!(bytes[16..56], expected, "{name}");
    }
}

#[test]
fn a_batch_is_atomic_and_may_be_larger_than_a_segment() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, 2048);
    let batches = [
        batch([append(1, 1, 2, 1)]),
        batch([append(1, 3, 400, 1), append(2, 1, 100, 1), hard_state(1, 5, 1, 2)]),
        batch([append(1, 403, 2, 1)]),
        batch([append(2, 50, 400, 2)]),
    ];
    for batch in &batches {
        log.write(batch).unwrap();
        log.sync().unwrap();
        maintain_all(&mut log);
    }
    assert_eq!(model_of(&open(&disk, 2048).1), model_after(&batches));
}

#[test]
fn an_open_log_can_move_to_the_thread_that_writes_it() {
    fn is_send<T: Send>() {}
    is_send::<RaftLog<SimDisk>>();
    is_send::<RaftLog<quorate_storage::disk::RealDisk>>();
}
