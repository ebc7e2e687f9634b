//! Both engines do what the trait promises, crashes included.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its engine has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_storage::engine::suite::{self, Factory, Script, contents};
use quorate_storage::engine::{
    BatchSeq, BufferedEngine, Durability, Engine, FailedWrite, FjallEngine, ModelDisk, ModelEngine, View,
    WriteBatch,
};

#[derive(Default)]
struct Model {
    disk: ModelDisk,
}

impl Factory for Model {
    type Engine = ModelEngine;

    fn reset(&mut self) {
        self.disk = ModelDisk::new();
    }

    fn open(&mut self) -> ModelEngine {
        ModelEngine::open(&self.disk).unwrap()
    }

    fn crash(&mut self, engine: ModelEngine, seed: u64) {
        self.disk.crash(seed);
        drop(engine);
    }
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quorate-engine-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Power loss is a copy of the directory as it stands, in which pages of the journal that were not yet synced
/// are lost.
struct Fjall {
    scratch: Scratch,
    lives: u32,
    /// The journal being written when it was last synced, and its length then.
    synced: (PathBuf, usize),
}

impl Fjall {
    fn new(name: &str) -> Self {
        Fjall {
            scratch: Scratch::new(name),
            lives: 0,
            synced: Default::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.scratch.0.join(self.lives.to_string())
    }
}

impl Factory for Fjall {
    type Engine = FjallEngine;

    fn reset(&mut self) {
        let _ = fs::remove_dir_all(self.path());
        self.lives += 1;
    }

    fn open(&mut self) -> FjallEngine {
        let engine = FjallEngine::open(self.path()).unwrap();
        self.synced = journal(&self.path());
        engine
    }

    fn make_durable(&mut self, engine: &FjallEngine) {
        engine.durability().make_durable().unwrap();
        self.synced = journal(&self.path());
    }

    fn crash(&mut self, engine: FjallEngine, seed: u64) {
        self.lose_power(engine, seed);
    }
}

impl Fjall {
    /// See the type.
    fn lose_power<E>(&mut self, engine: E, seed: u64) {
        let old = self.path();
        let (name, written) = journal(&old);
        self.lives += 1;
        copy(&old, &self.path());
        drop(engine);
        fs::remove_dir_all(&old).unwrap();

        let synced = if self.synced.0 == name { self.synced.1 } else { 0 };
        assert!(written >= synced);
        let file = self.path().join(&name);
        let mut journal = fs::read(&file).unwrap();
        match seed % 4 {
            // What was written got there.
            0 => {}
            // Nothing that was not synced did.
            1 => journal[synced..].fill(0),
            // The first part did.
            2 => journal[synced + (written - synced) * (seed as usize % 97) / 97..].fill(0),
            // Each page did or did not.
            _ => {
                for (nth, page) in journal.chunks_mut(4096).enumerate().take(written / 4096 + 1) {
                    if nth
                        .wrapping_mul(2_654_435_761)
                        .wrapping_add(seed as usize * 7)
                        .is_multiple_of(3)
                    {
                        let from = synced.saturating_sub(nth * 4096).min(page.len());
                        page[from..].fill(0);
                    }
                }
            }
        }
        fs::write(&file, journal).unwrap();
    }
}

/// The memtable in front of fjall: it loses what was not flushed to fjall, and fjall loses as above.
struct Buffered(Fjall);

impl Factory for Buffered {
    type Engine = BufferedEngine;

    fn reset(&mut self) {
        self.0.reset();
    }

    fn open(&mut self) -> BufferedEngine {
        let engine = BufferedEngine::open(self.0.path()).unwrap();
        self.0.synced = journal(&self.0.path());
        engine
    }

    fn make_durable(&mut self, engine: &BufferedEngine) {
        engine.durability().make_durable().unwrap();
        self.0.synced = journal(&self.0.path());
    }

    fn crash(&mut self, engine: BufferedEngine, seed: u64) {
        self.0.lose_power(engine, seed);
    }
}

/// The suite, and what it cannot ask because it starts no thread: a snapshot is read on another one meanwhile.
fn conforms(factory: &mut impl Factory) {
    suite::run(factory);
    factory.reset();
    let script = Script {
        seed: 8,
        keys: 100,
        value_bytes_max: 50,
    };
    let mut engine = factory.open();
    for number in 1..=50 {
        engine.write(script.batch(number)).unwrap();
    }
    let snapshot = engine.snapshot();
    let reader = std::thread::spawn(move || (0..20).map(|_| contents(&snapshot)).collect::<Vec<_>>());
    for number in 51..=200 {
        engine.write(script.batch(number)).unwrap();
    }
    let expected = script.contents(50);
    assert!(reader.join().unwrap().into_iter().all(|seen| seen == expected));
    assert!(contents(&engine) == script.contents(200));
    factory.kill(engine);
}

#[test]
fn the_memtable_over_fjall_keeps_the_contract() {
    conforms(&mut Buffered(Fjall::new("buffered")));
}

#[test]
fn the_memtable_over_fjall_reads_the_same_while_it_is_flushed() {
    let mut fjall = Fjall::new("flushing");
    fjall.reset();
    let mut engine = BufferedEngine::open(fjall.path()).unwrap();
    let key = |n: u32| Bytes::from(format!("{n:05}"));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flusher = std::thread::spawn({
        let (mut durability, stop) = (engine.durability(), stop.clone());
        move || {
            let mut flushes = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                durability.make_durable().unwrap();
                flushes += 1;
            }
            flushes
        }
    });
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..300u32 {
        let n = round.wrapping_mul(2_654_435_761) % 40;
        let value = (round % 5 != 0).then(|| Bytes::from(round.to_string()));
        match &value {
            Some(value) => expected.insert(key(n), value.clone()),
            None => expected.remove(&key(n)),
        };
        engine
            .write(WriteBatch {
                changes: vec![(key(n), value)],
            })
            .unwrap();
        let pairs: Vec<_> = expected.clone().into_iter().collect();
        let scanned: Vec<_> = engine.scan(b"", b"").map(Result::unwrap).collect();
        assert_eq!(scanned, pairs, "round {round}");
        let mut reversed: Vec<_> = engine.scan_reverse(b"", b"").map(Result::unwrap).collect();
        reversed.reverse();
        assert_eq!(reversed, pairs, "round {round}");
        assert_eq!(engine.get(&key(n)).unwrap(), expected.get(&key(n)).cloned());
        let snapshot = engine.snapshot();
        engine
            .write(WriteBatch {
                changes: vec![(key(99), Some(Bytes::from_static(b"later")))],
            })
            .unwrap();
        engine
            .write(WriteBatch {
                changes: vec![(key(99), None)],
            })
            .unwrap();
        let seen: Vec<_> = snapshot.scan(b"", b"").map(Result::unwrap).collect();
        assert_eq!(seen, pairs, "round {round}: snapshot");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(flusher.join().unwrap() > 0);
}

/// The newest journal's name, and how much of it has been written: the rest is zero.
fn journal(path: &Path) -> (PathBuf, usize) {
    let names = fs::read_dir(path)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let journals = names.filter(|name| name.extension().is_some_and(|extension| extension == "jnl"));
    let number = |name: &PathBuf| {
        name.file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let newest = journals.max_by_key(number).unwrap();
    let bytes = fs::read(path.join(&newest)).unwrap();
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    (newest, written)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn batch(key: &'static str, value: &'static str) -> WriteBatch {
    WriteBatch {
        changes: vec![(Bytes::from(key), Some(Bytes::from(value)))],
    }
}

#[test]
fn model_conforms() {
    conforms(&mut Model::default());
}

#[test]
fn fjall_conforms() {
    conforms(&mut Fjall::new("conforms"));
}

/// The model is of use only if its crashes differ: some seed keeps everything, some nothing, some a part.
#[test]
fn model_crashes_differ_by_seed_and_repeat() {
    let script = Script {
        seed: 3,
        keys: 20,
        value_bytes_max: 10,
    };
    let run = |seed| {
        let disk = ModelDisk::new();
        let mut engine = ModelEngine::open(&disk).unwrap();
        for number in 1..=20 {
            engine.write(script.batch(number)).unwrap();
            if number == 5 {
                engine.durability().make_durable().unwrap();
            }
        }
        disk.crash(seed);
        Script::position(&ModelEngine::open(&disk).unwrap())
    };
    let positions: Vec<u64> = (0..400).map(run).collect();
    assert!(
        (5..=20).all(|position| positions.contains(&position)),
        "{positions:?}"
    );
    assert_eq!(positions, (0..400).map(run).collect::<Vec<_>>());
}

#[test]
fn model_may_undo_and_reorder_removals_until_durable() {
    let outcome = |seed, is_durable: bool| {
        let disk = ModelDisk::new();
        let mut engine = ModelEngine::open(&disk).unwrap();
        engine.write(batch("a", "1")).unwrap();
        engine.durability().make_durable().unwrap();
        engine.write(batch("b", "1")).unwrap();
        assert!(!engine.drop_range(b"a", b"b", 1).unwrap());
        engine.write(batch("c", "1")).unwrap();
        if is_durable {
            engine.durability().make_durable().unwrap();
        }
        disk.crash(seed);
        let engine = ModelEngine::open(&disk).unwrap();
        [b"a", b"b", b"c"].map(|key| engine.get(key).unwrap().is_some())
    };
    let seen: Vec<[bool; 3]> = (0..60).map(|seed| outcome(seed, false)).collect();
    for expected in [
        [true, true, true],
        [false, false, false],
        [true, false, false],
        [false, true, true],
    ] {
        assert!(
            seen.contains(&expected),
            "{expected:?} is allowed and never happens"
        );
    }
    assert!((0..60).all(|seed| outcome(seed, true) == [false, true, true]));
}

#[test]
fn model_handles_die_with_their_process() {
    let disk = ModelDisk::new();
    let mut engine = ModelEngine::open(&disk).unwrap();
    ModelEngine::open(&disk).unwrap_err();
    engine.write(batch("a", "1")).unwrap();
    let snapshot = engine.snapshot();
    let mut durability = engine.durability();
    disk.crash(0);
    engine.write(batch("b", "1")).unwrap_err();
    durability.make_durable().unwrap_err();
    let next = ModelEngine::open(&disk).unwrap();
    drop(engine);
    ModelEngine::open(&disk).unwrap_err();
    durability.make_durable().unwrap_err();
    drop(next);
    let next = ModelEngine::open(&disk).unwrap();
    assert_eq!(next.get(b"b").unwrap(), None);
    assert_eq!(snapshot.get(b"a").unwrap(), Some(Bytes::from("1")));
}

#[test]
fn model_fails_the_nth_write_and_all_after_it() {
    for fate in [FailedWrite::Lost, FailedWrite::Kept] {
        let disk = ModelDisk::new();
        let mut engine = ModelEngine::open(&disk).unwrap();
        disk.fail_write(2, fate);
        engine.write(batch("a", "1")).unwrap();
        engine.write(batch("b", "1")).unwrap_err();
        assert_eq!(engine.last_batch(), BatchSeq(1));
        assert_eq!(engine.get(b"b").unwrap(), None);
        engine.write(batch("c", "1")).unwrap_err();
        engine.bulk_load(Vec::new()).unwrap_err();
        engine.drop_range(b"", b"", 1).unwrap_err();
        engine.durability().make_durable().unwrap_err();
        drop(engine);
        let mut engine = ModelEngine::open(&disk).unwrap();
        assert_eq!(engine.get(b"b").unwrap().is_some(), fate == FailedWrite::Kept);
        engine.write(batch("c", "1")).unwrap();
        disk.fail_make_durable(1);
        engine.durability().make_durable().unwrap_err();
        engine.durability().make_durable().unwrap_err();
        engine.write(batch("d", "1")).unwrap_err();
    }
}

#[test]
fn fjall_directory_in_use_is_refused() {
    let scratch = Scratch::new("in-use");
    let path = scratch.0.join("state");
    let engine = FjallEngine::open(&path).unwrap();
    let error = FjallEngine::open(&path).err().unwrap().to_string();
    assert!(error.contains("in use"), "{error}");
    drop(engine);
    FjallEngine::open(&path).unwrap();
}

#[test]
fn fjall_foreign_directory_is_refused() {
    let scratch = Scratch::new("foreign");
    fs::write(scratch.0.join("letter"), "dear diary").unwrap();
    let error = FjallEngine::open(&scratch.0).err().unwrap().to_string();
    assert!(error.contains("neither empty nor"), "{error}");
    assert!(scratch.0.join("letter").exists());
}

#[test]
fn fjall_empty_directory_and_interrupted_creation_are_fine() {
    let scratch = Scratch::new("creation");
    let path = scratch.0.join("state");
    fs::create_dir(&path).unwrap();
    fs::create_dir(scratch.0.join("state.new")).unwrap();
    fs::write(scratch.0.join("state.new/0.jnl"), "half").unwrap();
    let mut engine = FjallEngine::open(&path).unwrap();
    engine.write(batch("a", "1")).unwrap();
    drop(engine);
    assert_eq!(
        FjallEngine::open(&path).unwrap().get(b"a").unwrap(),
        Some(Bytes::from("1"))
    );
    assert!(!scratch.0.join("state.new").exists());
}

#[test]
fn fjall_damage_is_an_error_or_harmless() {
    let scratch = Scratch::new("damage");
    let path = scratch.0.join("state");
    let mut engine = FjallEngine::open(&path).unwrap();
    engine.write(batch("a", "1")).unwrap();
    drop(engine);
    let mut refused = 0;
    for entry in walk(&path) {
        let sound = fs::read(&entry).unwrap();
        if sound.iter().all(|byte| *byte == 0)
            || entry.extension().is_some_and(|extension| extension == "jnl")
        {
            continue;
        }
        fs::write(&entry, &sound[..sound.len() / 2]).unwrap();
        match FjallEngine::open(&path) {
            Ok(engine) => assert_eq!(contents(&engine).len(), 1, "{} was cut in half", entry.display()),
            Err(_) => refused += 1,
        }
        fs::write(&entry, &sound).unwrap();
    }
    assert!(refused > 1, "{refused} refusals");
    assert_eq!(contents(&FjallEngine::open(&path).unwrap()).len(), 1);
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

// Handles go to other threads, whatever the engine.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<FjallEngine>();
    is_send::<ModelEngine>();
    is_send::<Box<dyn Durability>>();
};

/// A range that fills tables gives its space back as soon as it is dropped. A view of before still has all of it, and its
/// neighbours stay as they are; so it is after a power loss, although the journal tells of what was in the tables.
#[test]
fn a_dropped_range_gives_its_space_back() {
    const COUNTS: [usize; 3] = [2_000, 20_000, 2_000];
    fn counts(view: &impl View) -> [usize; 3] {
        [("a", "b"), ("b", "c"), ("c", "d")]
            .map(|(from, to)| view.scan(from.as_bytes(), to.as_bytes()).count())
    }
    fn key(space: &str, n: usize) -> Bytes {
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

    let mut factory = Buffered(Fjall::new("space"));
    for (seed, limit) in [(0, 4_096), (1, 100), (2, 1_000_000), (3, 4_096)] {
        factory.reset();
        let mut engine = factory.open();
        for (space, count) in ["a", "b", "c"].into_iter().zip(COUNTS) {
            for n in 0..count {
                let changes = vec![(key(space, n), Some(value(n)))];
                engine.write(WriteBatch { changes }).unwrap();
                if n % 1_000 == 0 {
                    factory.make_durable(&engine);
                }
            }
        }
        factory.make_durable(&engine);
        let before = engine.size_bytes();
        let snapshot = engine.snapshot();
        // Some of the range has just been written again.
        let changes = (500..800).map(|n| (key("b", n), Some(value(n)))).collect();
        engine.write(WriteBatch { changes }).unwrap();
        // Half of what is there is deleted, and some is new, while the range goes.
        let mut n = 0;
        while engine.drop_range(b"b", b"c", limit).unwrap() || n < 1_000 {
            if n < 1_000 {
                let changes = vec![(key("a", n), None), (key("c", n), Some(value(n + 1)))];
                engine.write(WriteBatch { changes }).unwrap();
            }
            n += 1;
            std::thread::yield_now();
        }
        factory.make_durable(&engine);
        assert_eq!(counts(&engine), [1_000, 0, 2_000]);
        assert_eq!(counts(&snapshot), COUNTS, "a view does not change");
        drop(snapshot);
        let after = engine.size_bytes();
        assert!(
            after < before / 2,
            "{before} bytes became {after}; of 24,000 values 3,000 are left"
        );
        let changes = (1_000..1_500).map(|n| (key("a", n), None)).collect();
        engine.write(WriteBatch { changes }).unwrap();
        factory.crash(engine, seed);
        let engine = factory.open();
        let [a, b, c] = counts(&engine);
        assert!(
            (a, b, c) == (1_000, 0, 2_000) || (a, b, c) == (500, 0, 2_000),
            "after a power loss: {a} {b} {c}"
        );
        for n in 0..2_000 {
            let new = if n < 1_000 { n + 1 } else { n };
            assert_eq!(engine.get(&key("c", n)).unwrap(), Some(value(new)));
            assert!(n >= 1_000 || engine.get(&key("a", n)).unwrap().is_none());
        }
        factory.kill(engine);
    }
}
