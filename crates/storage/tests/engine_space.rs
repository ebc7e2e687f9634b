//! Dropped ranges give their space back, on the disk.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its engine has failed"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_storage::engine::suite::Factory;
use quorate_storage::engine::{BufferedEngine, Engine, View, WriteBatch};
use support::{Buffered, Fjall, walk};

const PATIENCE: Duration = Duration::from_secs(10);

fn key(space: char, n: usize) -> Bytes {
    Bytes::from(format!("{space}{n:06}"))
}

/// Does not compress.
fn value(n: usize) -> Bytes {
    let mut seed = n as u64;
    let byte = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (0..4 << 10).map(byte).collect()
}

fn put(engine: &mut BufferedEngine, changes: Vec<(Bytes, Option<Bytes>)>) {
    engine.write(WriteBatch { changes }).unwrap();
}

/// How many keys the spaces have.
fn counts<const N: usize>(view: &impl View, spaces: [char; N]) -> [usize; N] {
    spaces.map(|space| view.scan(space.to_string().as_bytes(), &end(space)).count())
}

fn end(space: char) -> Vec<u8> {
    vec![space as u8 + 1]
}

fn drop_space(engine: &mut BufferedEngine, space: char) {
    while engine
        .drop_range(space.to_string().as_bytes(), &end(space), 1_000)
        .unwrap()
    {
        std::thread::yield_now();
    }
}

/// Bytes of the files of tables. A file that goes while this looks is passed over.
fn tables_bytes(path: &Path) -> u64 {
    let is_table = |file: &&std::path::PathBuf| file.parent().is_some_and(|dir| dir.ends_with("tables"));
    let files = walk(path);
    let about = files.iter().filter(is_table).map(std::fs::metadata);
    about.flatten().map(|about| about.len()).sum()
}

fn wait_below(path: &Path, bytes: u64) {
    let deadline = Instant::now() + PATIENCE;
    while tables_bytes(path) >= bytes {
        assert!(
            Instant::now() < deadline,
            "{} bytes of tables, and less than {bytes} is expected",
            tables_bytes(path)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A range that fills tables gives its space back as soon as it is dropped. A view of before still has all of it, and its
/// neighbours stay as they are; so it is after a power loss, although the journal tells of what was in the tables.
#[test]
fn a_dropped_range_gives_its_space_back() {
    const SPACES: [char; 3] = ['a', 'b', 'c'];
    const COUNTS: [usize; 3] = [2_000, 20_000, 2_000];

    let mut factory = Buffered(Fjall::new("space"));
    for (seed, limit) in [(0, 4_096), (1, 100), (2, 1_000_000), (3, 4_096)] {
        factory.reset();
        let mut engine = factory.open();
        for (space, count) in SPACES.into_iter().zip(COUNTS) {
            for n in 0..count {
                put(&mut engine, vec![(key(space, n), Some(value(n)))]);
                if n % 1_000 == 0 {
                    factory.make_durable(&engine);
                }
            }
        }
        factory.make_durable(&engine);
        let before = engine.size_bytes();
        let snapshot = engine.snapshot();
        // Some of the range has just been written again.
        let changes = (500..800).map(|n| (key('b', n), Some(value(n)))).collect();
        put(&mut engine, changes);
        // Half of what is there is deleted, and some is new, while the range goes.
        let mut n = 0;
        while engine.drop_range(b"b", b"c", limit).unwrap() || n < 1_000 {
            if n < 1_000 {
                let changes = vec![(key('a', n), None), (key('c', n), Some(value(n + 1)))];
                put(&mut engine, changes);
            }
            n += 1;
            std::thread::yield_now();
        }
        factory.make_durable(&engine);
        assert_eq!(counts(&engine, SPACES), [1_000, 0, 2_000]);
        assert_eq!(counts(&snapshot, SPACES), COUNTS, "a view does not change");
        drop(snapshot);
        let after = engine.size_bytes();
        assert!(
            after < before / 2,
            "{before} bytes became {after}; of 24,000 values 3,000 are left"
        );
        let changes = (1_000..1_500).map(|n| (key('a', n), None)).collect();
        put(&mut engine, changes);
        factory.crash(engine, seed);
        let engine = factory.open();
        let [a, b, c] = counts(&engine, SPACES);
        assert!(
            (a, b, c) == (1_000, 0, 2_000) || (a, b, c) == (500, 0, 2_000),
            "after a power loss: {a} {b} {c}"
        );
        for n in 0..2_000 {
            let new = if n < 1_000 { n + 1 } else { n };
            assert_eq!(engine.get(&key('c', n)).unwrap(), Some(value(new)));
            assert!(n >= 1_000 || engine.get(&key('a', n)).unwrap().is_none());
        }
        factory.kill(engine);
    }
}

/// Ranges that share their tables are dropped one after another, and nothing is written any more. The files shrink with what
/// they hold, and what a view still shows goes after it. Once, nothing of this took place on a store that rests: the tables
/// that ranges share stayed, and so did files that no longer counted, as fjall keeps older versions of its tables until
/// it is written to. A power loss changes nothing, also not while the tables are compacted.
#[test]
fn the_files_of_dropped_ranges_go_while_the_engine_rests() {
    const SPACES: [char; 8] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const COUNT: usize = 1_000;
    const SPACE_BYTES: u64 = COUNT as u64 * (4 << 10);
    const SLACK: u64 = 8 << 20;

    let mut factory = Buffered(Fjall::new("rests"));
    for seed in 0..4 {
        let is_hasty = seed >= 2;
        factory.reset();
        let mut engine = factory.open();
        put(&mut engine, vec![(key('z', 0), Some(value(0)))]);
        for n in 0..COUNT {
            for space in SPACES {
                put(&mut engine, vec![(key(space, n * 7_919 % COUNT), Some(value(n)))]);
            }
            if n % 200 == 0 {
                factory.make_durable(&engine);
            }
        }
        factory.make_durable(&engine);
        assert!(tables_bytes(&factory.0.path()) > 3 * SPACE_BYTES);
        let view = engine.snapshot();
        for space in &SPACES[..2] {
            drop_space(&mut engine, *space);
        }
        assert_eq!(counts(&view, SPACES), [COUNT; 8], "a view does not change");
        assert!(tables_bytes(&factory.0.path()) > 3 * SPACE_BYTES);
        drop(view);
        for (left, space) in (0..6).rev().zip(&SPACES[2..]) {
            drop_space(&mut engine, *space);
            if !is_hasty {
                wait_below(&factory.0.path(), 2 * left * SPACE_BYTES + SLACK);
            }
        }
        factory.make_durable(&engine);
        if !is_hasty {
            wait_below(&factory.0.path(), SPACE_BYTES / 4);
        }
        factory.crash(engine, seed);
        let mut engine = factory.open();
        assert_eq!(counts(&engine, SPACES), [0; 8], "after a power loss");
        assert_eq!(engine.get(&key('z', 0)).unwrap(), Some(value(0)));
        // The range can be used again.
        put(&mut engine, vec![(key('a', 1), Some(value(1)))]);
        factory.make_durable(&engine);
        assert_eq!(counts(&engine, SPACES), [1, 0, 0, 0, 0, 0, 0, 0]);
        factory.kill(engine);
    }
}
