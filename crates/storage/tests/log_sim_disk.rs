//! The simulated disk does to unsynced data what the tests of the log rely on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use quorate_storage::disk::{Disk, Fault, SimDisk, is_down};

fn with_a_file(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let file = disk.create("a", 2048).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_dir().unwrap();
    disk
}

fn content(disk: &SimDisk) -> Vec<u8> {
    disk.visible()["a"].clone()
}

#[test]
fn killing_the_process_keeps_what_is_not_durable_and_leaves_it_so() {
    let disk = with_a_file(1);
    disk.write_at(&disk.open("a").unwrap(), 0, &[1; 512]).unwrap();
    disk.process_kill();
    assert_eq!(content(&disk)[..512], [1; 512]);
    assert_eq!(disk.durable()["a"], [0; 2048]);
}

#[test]
fn power_loss_keeps_drops_and_tears_writes() {
    let (mut kept, mut dropped, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = with_a_file(seed);
        disk.write_at(&disk.open("a").unwrap(), 0, &[1; 2048]).unwrap();
        disk.crash(seed);
        let content = content(&disk);
        let sectors: Vec<u8> = content.chunks(512).map(|sector| sector[0]).collect();
        assert!(
            content
                .chunks(512)
                .all(|sector| sector.iter().all(|byte| *byte == sector[0])),
            "torn in a sector"
        );
        match sectors.iter().sum() {
            0_u8 => dropped += 1,
            4 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(
        kept > 20 && dropped > 20 && torn > 20,
        "{kept} kept, {dropped} dropped, {torn} torn"
    );
}

#[test]
fn power_loss_never_takes_what_was_synced() {
    for seed in 0..100 {
        let disk = with_a_file(seed);
        let file = disk.open("a").unwrap();
        disk.write_at(&file, 100, &[1; 1000]).unwrap();
        disk.sync(&file).unwrap();
        disk.write_at(&file, 1100, &[2; 500]).unwrap();
        disk.crash(seed);
        assert_eq!(content(&disk)[100..1100], [1; 1000]);
    }
}

#[test]
fn after_a_failed_sync_another_one_makes_nothing_durable() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = with_a_file(seed);
        let file = disk.open("a").unwrap();
        disk.write_at(&file, 0, &[1; 512]).unwrap();
        disk.fail_sync(1, Fault::Device);
        assert!(disk.sync(&file).is_err());
        disk.sync(&file).unwrap();
        // Writing it again does make it durable.
        disk.write_at(&file, 512, &[2; 512]).unwrap();
        disk.sync(&file).unwrap();
        disk.crash(seed);
        assert_eq!(content(&disk)[512..1024], [2; 512]);
        lost += u32::from(content(&disk)[0] == 0);
    }
    assert!((20..80).contains(&lost), "lost in {lost} of 100");
}

#[test]
fn names_are_lost_unless_the_directory_was_synced() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = with_a_file(seed);
        disk.rename("a", "b").unwrap();
        disk.create("c", 0).unwrap();
        disk.crash(seed);
        let names = disk.list().unwrap();
        assert!([vec!["a"], vec!["b"], vec!["b", "c"]].contains(&names.iter().map(|n| &n[..]).collect()));
        lost += u32::from(names == ["a"]);
    }
    assert!((20..80).contains(&lost), "lost in {lost} of 100");
}

#[test]
fn a_dead_process_can_do_nothing_and_its_handles_die_with_it() {
    let disk = with_a_file(1);
    let file = disk.open("a").unwrap();
    disk.crash_at(2);
    disk.write_at(&file, 0, &[1; 10]).unwrap();
    let error = disk.sync(&file).unwrap_err();
    assert!(is_down(&error), "{error}");
    assert!(is_down(&disk.list().unwrap_err()) && is_down(&disk.write_at(&file, 0, &[1]).unwrap_err()));
    disk.process_kill();
    assert!(
        is_down(&disk.write_at(&file, 0, &[1]).unwrap_err()),
        "a handle of the dead process works"
    );
    disk.open("a").unwrap();
}

#[test]
fn the_same_seeds_give_the_same_losses() {
    let run = || {
        let disk = with_a_file(5);
        disk.write_at(&disk.open("a").unwrap(), 0, &[1; 2048]).unwrap();
        disk.crash(77);
        content(&disk)
    };
    assert_eq!(run(), run());
}
