//! What every engine must do, as checks that panic with the reason when it does not.
//!
//! A [`Factory`] says how to open an engine, kill its process and cut its power; [`run`] does the rest.
#![allow(clippy::unwrap_used, reason = "a check: an engine that fails has failed it")]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{BatchSeq, Engine, EngineError, KEY_BYTES_MAX, Pair, View, WriteBatch};

/// Opens engines on one storage, and ends their processes.
pub trait Factory {
    /// The engine under test.
    type Engine: Engine;

    /// Starts over with an empty storage. No engine is open.
    fn reset(&mut self);

    /// Opens the engine on the storage as it is.
    fn open(&mut self) -> Self::Engine;

    /// Makes durable all that was written. A factory that overrides this can note where the files stood, so
    /// that [`Factory::crash`] can destroy the rest.
    fn make_durable(&mut self, engine: &Self::Engine) {
        engine.durability().make_durable().unwrap();
    }

    /// Ends the process that holds the engine; the machine stays up.
    fn kill(&mut self, engine: Self::Engine) {
        drop(engine);
    }

    /// Cuts the power while the engine is open. The seed chooses what is lost of that which was not made
    /// durable.
    fn crash(&mut self, engine: Self::Engine, seed: u64);
}

type Check<F> = fn(&mut F);

/// Runs every check, each on an empty storage.
pub fn run<F: Factory>(factory: &mut F) {
    let checks: [(&str, Check<F>); 14] = [
        ("empty_engine", empty_engine),
        ("batch_numbers_count_from_one", batch_numbers_count_from_one),
        ("last_change_of_a_batch_wins", last_change_of_a_batch_wins),
        ("keys_of_any_allowed_length", keys_of_any_allowed_length),
        ("refused_input_changes_nothing", refused_input_changes_nothing),
        ("scan_bounds", scan_bounds),
        ("scans_follow_random_writes", scans_follow_random_writes),
        ("snapshot_ignores_later_writes", snapshot_ignores_later_writes),
        ("drop_range_in_slices", drop_range_in_slices),
        (
            "bulk_load_overwrites_and_is_overwritten",
            bulk_load_overwrites_and_is_overwritten,
        ),
        (
            "killed_process_loses_no_durable_batch",
            killed_process_loses_no_durable_batch,
        ),
        ("crash_leaves_a_prefix", crash_leaves_a_prefix),
        (
            "load_is_durable_with_a_later_batch",
            load_is_durable_with_a_later_batch,
        ),
        ("size_grows_with_the_data", size_grows_with_the_data),
    ];
    for (name, check) in checks {
        println!("engine suite: {name}");
        factory.reset();
        check(factory);
    }
}

/// What an engine should hold.
pub type Contents = BTreeMap<Bytes, Bytes>;

/// Writes of a test, reproducible from a seed and a batch's number, so that a process that did not make them can
/// tell what they left.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Another seed is another script.
    pub seed: u64,
    /// Batches change keys numbered below this; fewer keys, more overwrites.
    pub keys: u64,
    /// Values are up to this long.
    pub value_bytes_max: u64,
}

/// The key under which each batch of a [`Script`] stores its own number.
pub const SCRIPT_POSITION: &[u8] = b"position";

impl Script {
    /// The changes of the batch with a number, counted from 1: a few random keys, written and deleted, some
    /// twice, and the number.
    pub fn batch(&self, number: u64) -> WriteBatch {
        let mut seed = self.seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f);
        let mut changes = Vec::new();
        for _ in 0..1 + random(&mut seed) % 12 {
            let key = Bytes::from(format!("key{:06}", random(&mut seed) % self.keys));
            let len = (random(&mut seed) % (self.value_bytes_max + 1)) as usize;
            let is_delete = random(&mut seed).is_multiple_of(4);
            let value = (0..len)
                .map(|at| (number as usize + at) as u8)
                .collect::<Vec<u8>>();
            changes.push((key, (!is_delete).then(|| Bytes::from(value))));
        }
        let at = (random(&mut seed) as usize) % (changes.len() + 1);
        changes.insert(
            at,
            (
                Bytes::from_static(SCRIPT_POSITION),
                Some(number.to_be_bytes().to_vec().into()),
            ),
        );
        WriteBatch { changes }
    }

    /// What an engine holds after the batches `1..=last`.
    pub fn contents(&self, last: u64) -> Contents {
        let mut contents = Contents::new();
        for number in 1..=last {
            apply(&mut contents, &self.batch(number));
        }
        contents
    }

    /// The number of the last batch that a view shows, 0 if none.
    pub fn position(view: &impl View) -> u64 {
        let position = view.get(SCRIPT_POSITION).unwrap();
        position.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap()))
    }
}

/// Everything that a view shows.
pub fn contents(view: &impl View) -> Contents {
    view.scan(b"", b"").map(|pair| pair.unwrap()).collect()
}

fn apply(contents: &mut Contents, batch: &WriteBatch) {
    for (key, value) in &batch.changes {
        match value {
            Some(value) => contents.insert(key.clone(), value.clone()),
            None => contents.remove(key),
        };
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A batch in which `=` sets and its absence deletes: `["a=1", "b"]`.
fn batch(changes: &[&str]) -> WriteBatch {
    let change = |text: &&str| match text.split_once('=') {
        Some((key, value)) => (bytes(key), Some(bytes(value))),
        None => (bytes(text), None),
    };
    WriteBatch {
        changes: changes.iter().map(change).collect(),
    }
}

fn pair(text: &str) -> Pair {
    let (key, value) = text.split_once('=').unwrap();
    (bytes(key), bytes(value))
}

/// Pairs as `a=1 b=2`.
fn show(pairs: impl Iterator<Item = Result<Pair, EngineError>>) -> String {
    let show_pair = |pair: Result<Pair, EngineError>| {
        let (key, value) = pair.unwrap();
        format!(
            "{}={}",
            String::from_utf8_lossy(&key),
            String::from_utf8_lossy(&value)
        )
    };
    pairs.map(show_pair).collect::<Vec<_>>().join(" ")
}

fn show_all(view: &impl View) -> String {
    show(view.scan(b"", b""))
}

fn empty_engine<F: Factory>(factory: &mut F) {
    let engine = factory.open();
    assert_eq!(engine.last_batch(), BatchSeq(0));
    assert_eq!(engine.get(b"a").unwrap(), None);
    assert_eq!(show_all(&engine), "");
    assert_eq!(show(engine.scan_reverse(b"", b"")), "");
    engine.durability().make_durable().unwrap();
    factory.kill(engine);
}

fn batch_numbers_count_from_one<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    assert_eq!(engine.write(batch(&["a=1"])).unwrap(), BatchSeq(1));
    assert_eq!(
        engine.write(WriteBatch::default()).unwrap(),
        BatchSeq(2),
        "an empty batch takes a number"
    );
    engine.bulk_load(vec![pair("b=1")]).unwrap();
    engine.drop_range(b"b", b"c", 10).unwrap();
    assert_eq!(engine.last_batch(), BatchSeq(2), "loads and removals take none");
    assert_eq!(engine.write(batch(&["missing"])).unwrap(), BatchSeq(3));
    assert_eq!(show_all(&engine), "a=1");
    factory.kill(engine);
    let engine = factory.open();
    assert_eq!(
        engine.last_batch(),
        BatchSeq(0),
        "counted since the engine was opened"
    );
    factory.kill(engine);
}

fn last_change_of_a_batch_wins<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    engine
        .write(batch(&[
            "a=1", "b=1", "a=2", "b", "c", "c=3", "d=1", "d", "d=4", "a=5",
        ]))
        .unwrap();
    assert_eq!(show_all(&engine), "a=5 c=3 d=4");
    assert_eq!(engine.get(b"b").unwrap(), None);
    engine.write(batch(&["a", "a=6", "c=7", "c", "e="])).unwrap();
    assert_eq!(show_all(&engine), "a=6 d=4 e=");
    factory.make_durable(&engine);
    factory.kill(engine);
    let engine = factory.open();
    assert_eq!(
        show_all(&engine),
        "a=6 d=4 e=",
        "also when read back from storage"
    );
    factory.kill(engine);
}

fn keys_of_any_allowed_length<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    let mut expected = Contents::new();
    for len in [1, 2, 19, 20, 21, 300, KEY_BYTES_MAX] {
        for fill in [0x00, 0x7f, 0xff] {
            if (len, fill) == (1, 0) {
                continue; // the engine's own
            }
            let changes = vec![(
                Bytes::from(vec![fill; len]),
                Some(Bytes::from(vec![fill; len * 3])),
            )];
            apply(
                &mut expected,
                &WriteBatch {
                    changes: changes.clone(),
                },
            );
            engine.write(WriteBatch { changes }).unwrap();
        }
    }
    assert!(contents(&engine) == expected);
    factory.make_durable(&engine);
    factory.kill(engine);
    let engine = factory.open();
    assert!(contents(&engine) == expected);
    factory.kill(engine);
}

fn refused_input_changes_nothing<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    engine.write(batch(&["a=1"])).unwrap();
    engine.write(batch(&["b=1", "=2"])).unwrap_err();
    engine.write(batch(&["b=1", "\0=2"])).unwrap_err();
    let long = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    engine
        .write(WriteBatch {
            changes: vec![(long.clone(), None)],
        })
        .unwrap_err();
    engine
        .bulk_load(vec![pair("c=1"), (long, Bytes::new())])
        .unwrap_err();
    engine.bulk_load(vec![pair("d=1"), pair("c=1")]).unwrap_err();
    engine.bulk_load(vec![pair("c=1"), pair("c=2")]).unwrap_err();
    assert_eq!(show_all(&engine), "a=1");
    assert_eq!(
        engine.write(batch(&["b=2"])).unwrap(),
        BatchSeq(2),
        "a refused batch takes no number"
    );
    factory.kill(engine);
}

fn scan_bounds<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    engine
        .write(batch(&["a=1", "b=2", "ba=3", "c=4", "d=5"]))
        .unwrap();
    engine.write(batch(&["c"])).unwrap();
    engine
        .write(WriteBatch {
            changes: vec![(Bytes::from_static(b"\xff\xff"), Some(bytes("6")))],
        })
        .unwrap();
    fn check(view: &impl View) {
        let cases: [(&[u8], &[u8], &str); 10] = [
            (b"b", b"d", "b=2 ba=3"),
            (b"a", b"b", "a=1"),
            (b"", b"b", "a=1"),
            (b"b\0", b"ba\0", "ba=3"),
            (b"c", b"d", ""),
            (b"d", b"e", "d=5"),
            (b"b", b"b", ""),
            (b"d", b"a", ""),
            (b"e", b"f", ""),
            (b"aa", b"bb", "b=2 ba=3"),
        ];
        for (start, end, expected) in cases {
            assert_eq!(show(view.scan(start, end)), expected, "{start:?}..{end:?}");
            let mut backwards: Vec<&str> = expected.split(' ').collect();
            backwards.reverse();
            assert_eq!(
                show(view.scan_reverse(start, end)),
                backwards.join(" "),
                "{start:?}..{end:?} reverse"
            );
        }
        let count = |start: &[u8]| {
            (
                view.scan(start, b"").count(),
                view.scan_reverse(start, b"").count(),
            )
        };
        assert_eq!(count(b""), (5, 5), "an empty end is the end of the key space");
        assert_eq!(count(b"ba"), (3, 3));
        assert_eq!(count(b"\xff\xff"), (1, 1));
        assert_eq!(count(b"\xff\xff\0"), (0, 0));
    }
    check(&engine);
    check(&engine.snapshot());
    factory.kill(engine);
}

fn scans_follow_random_writes<F: Factory>(factory: &mut F) {
    let script = Script {
        seed: 7,
        keys: 40,
        value_bytes_max: 20,
    };
    let mut engine = factory.open();
    let mut expected = Contents::new();
    let mut seed = 1;
    for number in 1..=300 {
        engine.write(script.batch(number)).unwrap();
        apply(&mut expected, &script.batch(number));
        let mut ends = [0, 0].map(|_: u64| Bytes::from(format!("key{:06}", random(&mut seed) % 42)));
        ends.sort();
        let [start, end] = ends;
        let forward: Vec<Pair> = engine.scan(&start, &end).map(|pair| pair.unwrap()).collect();
        let wanted: Vec<Pair> = expected
            .range(start.clone()..end.clone())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(forward, wanted, "after batch {number}");
        let mut backward: Vec<Pair> = engine
            .scan_reverse(&start, &end)
            .map(|pair| pair.unwrap())
            .collect();
        backward.reverse();
        assert_eq!(backward, wanted, "after batch {number}");
        assert_eq!(
            engine.get(&start).unwrap().as_ref(),
            expected.get(&start),
            "after batch {number}"
        );
    }
    factory.kill(engine);
}

fn snapshot_ignores_later_writes<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    engine.write(batch(&["a=1", "b=1", "c=1", "d=1"])).unwrap();
    let before = engine.snapshot();
    let mut iterating = before.scan(b"", b"");
    let mut backwards = before.scan_reverse(b"", b"");
    assert_eq!(iterating.next().unwrap().unwrap(), pair("a=1"));
    assert_eq!(backwards.next().unwrap().unwrap(), pair("d=1"));
    engine
        .write(batch(&["a", "b=2", "bb=2", "c=2", "c", "d=2"]))
        .unwrap();
    engine.bulk_load(vec![pair("e=1")]).unwrap();
    let between = engine.snapshot();
    engine.drop_range(b"b", b"c", 10).unwrap();
    assert_eq!(show(iterating), "b=1 c=1 d=1", "while iterating");
    assert_eq!(show(backwards), "c=1 b=1 a=1", "while iterating backwards");
    assert_eq!(before.get(b"bb").unwrap(), None);
    assert_eq!(before.get(b"a").unwrap(), Some(bytes("1")));
    assert_eq!(show_all(&before), "a=1 b=1 c=1 d=1");
    assert_eq!(show_all(&between), "b=2 bb=2 d=2 e=1");
    assert_eq!(show_all(&engine), "d=2 e=1");
    drop((before, between));
    factory.kill(engine);
}

fn drop_whole(engine: &mut impl Engine, start: &[u8], end: &[u8], limit: usize) {
    while engine.drop_range(start, end, limit).unwrap() {
        std::thread::yield_now();
    }
}

fn drop_range_in_slices<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    let all = |engine: &F::Engine| show_all(engine);
    engine
        .write(batch(&["a=1", "b1=1", "b2=1", "b3=1", "b4=1", "b5=1", "c=1"]))
        .unwrap();
    drop_whole(&mut engine, b"x", b"y", 5);
    assert!(!engine.drop_range(b"c", b"b", 5).unwrap(), "no such range");
    assert!(engine.drop_range(b"b", b"c", 0).unwrap());
    assert!(engine.drop_range(b"b", b"c", 2).unwrap());
    assert_eq!(engine.scan(b"b", b"c").count(), 3);
    assert!(engine.drop_range(b"b", b"c", 2).unwrap());
    engine.write(batch(&["b0=2", "b2=2"])).unwrap();
    assert!(
        engine.drop_range(b"b", b"c", 2).unwrap(),
        "keys written between slices are found"
    );
    drop_whole(&mut engine, b"b", b"c", 2);
    assert_eq!(all(&engine), "a=1 c=1");
    drop_whole(&mut engine, b"b", b"c", 2);
    engine.bulk_load(vec![pair("b1=3"), pair("b2=3")]).unwrap();
    assert_eq!(all(&engine), "a=1 b1=3 b2=3 c=1", "the range can be used again");
    drop_whole(&mut engine, b"b2", b"", 9);
    assert_eq!(
        all(&engine),
        "a=1 b1=3",
        "an empty end is the end of the key space"
    );
    factory.make_durable(&engine);
    factory.crash(engine, 1);
    let engine = factory.open();
    assert_eq!(all(&engine), "a=1 b1=3", "durable like a batch");
    factory.kill(engine);
}

fn bulk_load_overwrites_and_is_overwritten<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    engine.write(batch(&["a=1", "b=1"])).unwrap();
    engine.bulk_load(Vec::new()).unwrap();
    engine
        .bulk_load(vec![pair("b=2"), pair("c=2"), pair("d=2")])
        .unwrap();
    engine.write(batch(&["c=3", "d"])).unwrap();
    assert_eq!(show_all(&engine), "a=1 b=2 c=3");
    let many: Vec<Pair> = (0..5_000).map(|at| pair(&format!("m{at:05}=v{at}"))).collect();
    engine.bulk_load(many.clone()).unwrap();
    assert!(engine.scan(b"m", b"n").map(|pair| pair.unwrap()).eq(many));
    factory.kill(engine);
}

fn killed_process_loses_no_durable_batch<F: Factory>(factory: &mut F) {
    let script = Script {
        seed: 9,
        keys: 60,
        value_bytes_max: 100,
    };
    let mut last = 0;
    for round in 0..4 {
        let mut engine = factory.open();
        let found = Script::position(&engine);
        assert!(
            found >= last,
            "round {round}: batch {last} was durable, {found} is the last one found"
        );
        assert!(
            contents(&engine) == script.contents(found),
            "round {round}: exactly the first {found} batches"
        );
        for number in found + 1..=found + 40 {
            engine.write(script.batch(number)).unwrap();
            if number == found + 25 {
                factory.make_durable(&engine);
                last = number;
            }
        }
        factory.kill(engine);
    }
}

fn crash_leaves_a_prefix<F: Factory>(factory: &mut F) {
    for seed in 0..12 {
        factory.reset();
        // Some values longer than a page, so that a page lost lies within one.
        let value_bytes_max = if seed % 2 == 0 { 100 } else { 20_000 };
        let script = Script {
            seed,
            keys: 60,
            value_bytes_max,
        };
        let mut durable = 0;
        for round in 0..3 {
            let mut engine = factory.open();
            let found = Script::position(&engine);
            assert!(
                found >= durable,
                "seed {seed}, round {round}: batch {durable} was durable, {found} found"
            );
            assert!(
                contents(&engine) == script.contents(found),
                "seed {seed}, round {round}: batches up to {found}"
            );
            let mark = found + seed % 7;
            for number in found + 1..=found + 30 {
                if number == mark {
                    factory.make_durable(&engine);
                    durable = number - 1;
                }
                engine.write(script.batch(number)).unwrap();
            }
            factory.crash(engine, seed * 10 + round);
        }
    }
}

fn load_is_durable_with_a_later_batch<F: Factory>(factory: &mut F) {
    for seed in 0..12 {
        factory.reset();
        let mut engine = factory.open();
        let pairs: Vec<Pair> = (0..3_000)
            .map(|at| pair(&format!("staged{at:05}=v{at}")))
            .collect();
        engine.write(batch(&["a=1"])).unwrap();
        engine.bulk_load(pairs.clone()).unwrap();
        engine.write(batch(&["b=1"])).unwrap();
        if seed % 3 == 0 {
            factory.make_durable(&engine);
        }
        factory.crash(engine, seed);
        let engine = factory.open();
        let found = engine.get(b"b").unwrap();
        assert!(
            found.is_some() || seed % 3 != 0,
            "seed {seed}: the batch was durable"
        );
        if found.is_some() {
            assert_eq!(engine.get(b"a").unwrap(), Some(bytes("1")));
            assert!(
                engine.scan(b"staged", b"t").map(|pair| pair.unwrap()).eq(pairs),
                "seed {seed}"
            );
        }
        factory.kill(engine);
    }
}

fn size_grows_with_the_data<F: Factory>(factory: &mut F) {
    let mut engine = factory.open();
    let before = engine.size_bytes();
    for number in 0..100_u64 {
        let changes = vec![(
            number.to_be_bytes().to_vec().into(),
            Some(Bytes::from(vec![1; 1_000])),
        )];
        engine.write(WriteBatch { changes }).unwrap();
    }
    let grown = engine.size_bytes() - before;
    assert!(
        (50_000..1_000_000).contains(&grown),
        "100 KB written, {grown} bytes more"
    );
    factory.kill(engine);
}
