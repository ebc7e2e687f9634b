//! How long the thread that drives Raft waits for its engine while shards come and go.
//!
//! `cargo run --release -p quorate-storage --example engine_shards -- [engines] [rounds] [directory]`
//!
//! Engines (3) on one disk, each with a thread that turns every millisecond: it writes a small batch, loads 256 KiB of a
//! shard of 32 MiB every seventh turn, and drops the shard of the round before in slices every 50 turns. Another thread
//! makes the engine durable ten times a second.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_storage::engine::{BufferedEngine, Engine, Pair, WriteBatch};

const SHARD_CHUNKS: u32 = 128;
const CHUNK_PAIRS: u32 = 64;
const TURN: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let engines: u32 = args.next().map_or(Ok(3), |arg| arg.parse())?;
    let rounds: u32 = args.next().map_or(Ok(10), |arg| arg.parse())?;
    let directory = args
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join("quorate-engine-shards");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)?;
    let stolen = stolen_seconds();
    let began = Instant::now();
    let threads: Vec<_> = (0..engines)
        .map(|engine| {
            let path = directory.join(engine.to_string());
            std::thread::spawn(move || run(&path, rounds).map_err(|error| error.to_string()))
        })
        .collect();
    let mut all: [Vec<Duration>; 3] = Default::default();
    for thread in threads {
        let waits = thread.join().map_err(|_| "an engine's thread panicked")??;
        all.iter_mut()
            .zip(waits)
            .for_each(|(all, waits)| all.extend(waits));
    }
    for (name, mut waits) in ["write", "load", "drop"].into_iter().zip(all) {
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        println!(
            "{name:5}: {:6} calls, p50 {:?} p99 {:?} p99.9 {:?} max {:?}",
            waits.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
    println!(
        "{:.1} s; the host took {:.1} s of processor time",
        began.elapsed().as_secs_f64(),
        stolen_seconds() - stolen
    );
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// How long each write, each load and each drop took.
fn run(path: &PathBuf, rounds: u32) -> Result<[Vec<Duration>; 3], Box<dyn Error>> {
    let mut engine = BufferedEngine::open(path)?;
    let stop = Arc::new(AtomicBool::new(false));
    let syncer = std::thread::spawn({
        let mut durability = engine.durability();
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                durability.make_durable().map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        }
    });
    let mut waits: [Vec<Duration>; 3] = Default::default();
    let timed = |waits: &mut Vec<Duration>, began: Instant| waits.push(began.elapsed());
    for round in 1..=rounds {
        let mut is_left = round > 1;
        let mut chunk = 0;
        let mut turn = 0;
        while chunk < SHARD_CHUNKS || is_left {
            let began = Instant::now();
            let changes = vec![(
                Bytes::from(format!("log{}", turn % 100)),
                Some(Bytes::from_static(&[7; 128])),
            )];
            engine.write(WriteBatch { changes })?;
            timed(&mut waits[0], began);
            if turn % 7 == 0 && chunk < SHARD_CHUNKS {
                let pairs = (0..CHUNK_PAIRS)
                    .map(|n| pair(round, chunk * CHUNK_PAIRS + n))
                    .collect();
                let began = Instant::now();
                engine.bulk_load(pairs)?;
                timed(&mut waits[1], began);
                chunk += 1;
            }
            if turn % 50 == 0 && is_left {
                let began = Instant::now();
                is_left =
                    engine.drop_range(&round_key(round - 1, 0), &round_key(round - 1, u32::MAX), 4096)?;
                timed(&mut waits[2], began);
            }
            turn += 1;
            std::thread::sleep(TURN);
        }
    }
    stop.store(true, Ordering::Relaxed);
    syncer.join().map_err(|_| "the syncing thread panicked")??;
    Ok(waits)
}

fn round_key(round: u32, n: u32) -> Bytes {
    Bytes::from([&b"s"[..], &round.to_be_bytes(), &n.to_be_bytes()].concat())
}

/// A pair that does not compress.
fn pair(round: u32, n: u32) -> Pair {
    let mut seed = u64::from(round) << 32 | u64::from(n);
    let byte = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (round_key(round, n), (0..4 << 10).map(byte).collect())
}

/// Processor time that a host took from this machine; 0 where /proc does not say.
fn stolen_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut all = stat.lines().next().unwrap_or_default().split_whitespace();
    let ticks: Option<f64> = all.nth(8).and_then(|ticks| ticks.parse().ok());
    ticks.unwrap_or_default() / 100.0
}
