//! The log over real files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log_common;

use std::path::PathBuf;

use log_common::*;
use quorate_storage::disk::{Disk, RealDisk};
use quorate_storage::log::RaftLog;

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

#[test]
fn a_log_over_real_files_comes_back_after_reopening() {
    let path = directory("round_trip");
    let mut batches = Vec::new();
    for round in 0..5 {
        let disk = RealDisk::open(&path).unwrap();
        let (mut log, recovered) = RaftLog::open(disk, identity(), options(64 << 10)).unwrap();
        assert_eq!(model_of(&recovered), model_after(&batches), "round {round}");
        assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
        for n in 0..200 {
            let index = (round * 200 + n) * 5 + 1;
            let ops = [
                append(1, index, 5, 1),
                hard_state(1, 7, 1, index),
                append(2, n + 1, 1, round + 1),
            ];
            batches.push(batch(ops));
            if n % 10 == 0 {
                batches.push(batch([compact(1, index, 1)]));
                log.write(&batches[batches.len() - 2]).unwrap();
            }
            log.write(&batches[batches.len() - 1]).unwrap();
            log.sync().unwrap();
            maintain_all(&mut log);
        }
        assert!(log.bytes_on_disk() <= 4 * (64 << 10), "{}", log.bytes_on_disk());
    }
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_real_disk_does_what_the_trait_says() {
    let path = directory("trait");
    let disk = RealDisk::open(&path).unwrap();
    let file = disk.create("b", 3 << 20).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 3 << 20);
    let mut buf = [1; 100];
    disk.read_at(&file, (3 << 20) - 100, &mut buf).unwrap();
    assert_eq!(buf, [0; 100]);
    assert!(
        disk.read_at(&file, (3 << 20) - 99, &mut buf).is_err(),
        "read past the end"
    );
    disk.write_at(&file, 1000, b"hello").unwrap();
    disk.sync(&file).unwrap();
    assert!(disk.create("b", 1).is_err(), "created over a file");
    disk.create("c", 0).unwrap();
    disk.rename("b", "a").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.list().unwrap(), ["a", "c"]);
    drop(disk);
    let disk = RealDisk::open(&path).unwrap();
    let mut buf = [0; 5];
    disk.read_at(&disk.open("a").unwrap(), 1000, &mut buf).unwrap();
    assert_eq!(&buf, b"hello");
    disk.remove("a").unwrap();
    assert!(disk.open("a").is_err());
    std::fs::remove_dir_all(&path).unwrap();
}
