//! Both engines do what the trait promises, crashes included.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its engine has failed"
)]

mod support;

use std::fs;

use bytes::Bytes;
use quorate_storage::engine::suite::{self, Factory, Script, contents};
use quorate_storage::engine::{
    BatchSeq, BufferedEngine, Durability, Engine, FailedWrite, FjallEngine, ModelDisk, ModelEngine, View,
    WriteBatch,
};
use support::{Buffered, Fjall, Scratch, walk};

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

// Handles go to other threads, whatever the engine.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<FjallEngine>();
    is_send::<ModelEngine>();
    is_send::<Box<dyn Durability>>();
};
