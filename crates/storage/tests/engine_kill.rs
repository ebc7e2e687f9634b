//! A process is killed in the middle of its writes; the next one finds an exact prefix of its batches.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use quorate_storage::engine::suite::{Script, contents};
use quorate_storage::engine::{Engine, FjallEngine, FjallOptions};

const DIRECTORY: &str = "QUORATE_ENGINE_KILL_DIRECTORY";
const SCRIPT: Script = Script {
    seed: 11,
    keys: 3_000,
    value_bytes_max: 900,
};

/// Small memtables, so that the kills fall into flushes, compactions and changes of the journal too.
fn open(path: &Path) -> FjallEngine {
    FjallEngine::open_with(
        path,
        &FjallOptions {
            memtable_bytes: 1 << 20,
            ..FjallOptions::default()
        },
    )
    .unwrap()
}

/// Not a test: the process that is killed. Writes until then, and says up to where it is durable.
#[test]
fn child() {
    let Some(path) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut engine = open(Path::new(&path));
    let mut durability = engine.durability();
    let mut number = Script::position(&engine);
    loop {
        for _ in 0..500 {
            number += 1;
            engine.write(SCRIPT.batch(number)).unwrap();
        }
        durability.make_durable().unwrap();
        println!("\ndurable {number}");
    }
}

#[test]
fn killed_writer_leaves_an_exact_prefix() {
    let path = std::env::temp_dir().join(format!("quorate-engine-kill-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut durable = 0;
        // The kill comes at once after a mark, wherever the child is by then.
        let mut marks = 3 + round * 5;
        while marks > 0 {
            let line = lines.next().expect("the child runs until it is killed").unwrap();
            if let Some(number) = line.strip_prefix("durable ") {
                durable = number.parse().unwrap();
                marks -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let engine = open(&path);
        let found = Script::position(&engine);
        assert!(
            found >= durable,
            "round {round}: batch {durable} was durable, {found} is the last one found"
        );
        assert!(
            contents(&engine) == SCRIPT.contents(found),
            "round {round}: exactly the first {found} batches"
        );
    }
    fs::remove_dir_all(&path).unwrap();
}
