use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, Term};
use quorate_storage::log::{LogOptions, Recovered};
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};
use tempfile::TempDir;

use super::*;

const SHARD: ShardId = ShardId(1);

fn open(dir: &TempDir) -> (RaftLog<RealDisk>, Recovered) {
    let identity = Identity {
        cluster: ClusterId(1),
        store: StoreId(1),
        incarnation: Incarnation(1),
    };
    let options = LogOptions {
        segment_bytes: 1 << 20,
        ..LogOptions::default()
    };
    RaftLog::open(RealDisk::open(dir.path()).unwrap(), identity, options).unwrap()
}

/// A writer, and what its thread's wake-ups arrive at.
fn writer(dir: &TempDir, placement: LogSync) -> (LogWriter, mpsc::Receiver<()>) {
    let (woken, wakes) = mpsc::channel();
    let writer = LogWriter::spawn(open(dir).0, placement, move || {
        let _ = woken.send(());
    })
    .unwrap();
    (writer, wakes)
}

/// A batch with one entry.
fn batch(index: u64) -> (LogToken, LogBatch) {
    let payload = Payload::Normal(Bytes::from(vec![index as u8; 100]));
    let entries = vec![Entry {
        term: Term(1),
        index: Index(index),
        payload,
    }];
    (
        LogToken(index),
        LogBatch {
            ops: vec![LogOp::Append {
                shard: SHARD,
                entries,
            }],
            sync: true,
        },
    )
}

fn wait_for(writer: &mut LogWriter, wakes: &mpsc::Receiver<()>, token: LogToken) -> Result<(), LogError> {
    while writer.reported < token {
        wakes
            .recv_timeout(Duration::from_secs(20))
            .expect("the thread reports what it has written");
        writer.completed()?;
    }
    Ok(())
}

fn indexes(dir: &TempDir) -> Vec<u64> {
    open(dir).1.shards[&SHARD]
        .entries
        .iter()
        .map(|entry| entry.index.0)
        .collect()
}

#[test]
fn inline_writes_are_durable_on_return() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, wakes) = writer(&dir, LogSync::Inline);
    assert_eq!(writer.submit(&mut Vec::new()).unwrap(), None);
    let mut batches = vec![batch(1), batch(2)];
    assert_eq!(writer.submit(&mut batches).unwrap(), Some(LogToken(2)));
    assert!(batches.is_empty());
    let stats = writer.stats();
    assert_eq!(
        (stats.syncs, stats.written_bytes),
        (1, 2 * (24 + 13 + 100)),
        "one sync for a turn"
    );
    assert!(stats.sync_us_max <= stats.sync_us);
    assert!(wakes.try_recv().is_err(), "nobody needs to be woken");
    drop(writer);
    assert_eq!(indexes(&dir), [1, 2]);
}

#[test]
fn writes_on_the_thread_are_reported_in_order_and_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, wakes) = writer(&dir, LogSync::Thread);
    let shared = Arc::clone(&writer.shared);
    let busy = shared.lock();
    for index in 1..=50 {
        assert_eq!(writer.submit(&mut vec![batch(index)]).unwrap(), None);
    }
    drop(busy);
    wait_for(&mut writer, &wakes, LogToken(50)).unwrap();
    assert!(writer.stats().syncs < 50, "{:?}", writer.stats());
    drop((writer, shared));
    assert_eq!(indexes(&dir), (1..=50).collect::<Vec<_>>());
}

#[test]
fn the_last_writes_are_done_before_the_writer_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _wakes) = writer(&dir, LogSync::Thread);
    for index in 1..=20 {
        writer.submit(&mut vec![batch(index)]).unwrap();
    }
    drop(writer);
    assert_eq!(indexes(&dir).len(), 20);
}

#[test]
fn auto_placement_moves_to_the_thread_and_back_without_one_write_overtaking_another() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, wakes) = writer(&dir, LogSync::Auto);
    assert_eq!(
        writer.submit(&mut vec![batch(1)]).unwrap(),
        Some(LogToken(1)),
        "quick until shown otherwise"
    );

    writer.shared.average_us.store(SLOW_US + 1, Ordering::Relaxed);
    let shared = Arc::clone(&writer.shared);
    let busy = shared.lock();
    assert_eq!(writer.submit(&mut vec![batch(2)]).unwrap(), None);
    // Quick again, but the thread has not written yet.
    writer.shared.average_us.store(0, Ordering::Relaxed);
    assert_eq!(writer.submit(&mut vec![batch(3)]).unwrap(), None);
    drop(busy);
    wait_for(&mut writer, &wakes, LogToken(3)).unwrap();

    writer.shared.average_us.store(0, Ordering::Relaxed);
    assert_eq!(writer.submit(&mut vec![batch(4)]).unwrap(), Some(LogToken(4)));
    drop((writer, shared));
    assert_eq!(indexes(&dir), [1, 2, 3, 4]);
}

#[test]
fn housekeeping_in_the_way_sends_an_inline_write_to_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, wakes) = writer(&dir, LogSync::Inline);
    let shared = Arc::clone(&writer.shared);
    let busy = shared.lock();
    writer.maintain_now();
    assert_eq!(writer.submit(&mut vec![batch(1)]).unwrap(), None);
    assert_eq!(writer.bytes_on_disk(), None);
    drop(busy);
    wait_for(&mut writer, &wakes, LogToken(1)).unwrap();
}

#[test]
fn p2_an_error_ends_all_writing_inline_and_on_the_thread() {
    for placement in [LogSync::Inline, LogSync::Thread] {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, wakes) = writer(&dir, placement);
        // Housekeeping on the thread would take an inline write along.
        writer.until_maintain = u64::MAX;
        let mut submit = |index| -> Result<(), LogError> {
            if writer.submit(&mut vec![batch(index)])?.is_none() {
                wait_for(&mut writer, &wakes, LogToken(index))?;
            }
            Ok(())
        };
        submit(1).unwrap();
        // The log refuses a gap as it would report a failed write.
        submit(5).unwrap_err();
        if placement == LogSync::Inline {
            submit(2).unwrap_err();
        }
        drop(writer);
        assert_eq!(indexes(&dir), [1]);
    }
}
