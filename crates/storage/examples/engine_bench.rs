//! How fast the state engine takes batches and answers reads, and how long a single batch can take.
//!
//! `cargo run --release -p quorate-storage --example engine_bench -- [keys] [writes] [directory]`
//!
//! Random 16-byte keys out of `keys` (100,000), 128-byte values, `writes` of them (1,000,000) for each size of
//! batch, while another thread makes them durable ten times a second.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_storage::engine::{Engine, FjallEngine, FjallOptions, View, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let keys: u64 = args.next().map_or(Ok(100_000), |arg| arg.parse())?;
    let writes: u64 = args.next().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let directory = args
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join("quorate-engine-bench");
    let option = |name: &str, default: u64| -> u64 {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let defaults = FjallOptions::default();
    let options = FjallOptions {
        cache_bytes: option("CACHE_MB", defaults.cache_bytes >> 20) << 20,
        memtable_bytes: option("MEMTABLE_MB", defaults.memtable_bytes >> 20) << 20,
        table_bytes: option("TABLE_MB", defaults.table_bytes >> 20) << 20,
        open_files: defaults.open_files,
    };
    println!("{options:?}");
    for batch_keys in [1, 10, 64, 500] {
        let _ = std::fs::remove_dir_all(&directory);
        run(&directory, &options, batch_keys, keys, writes)?;
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn run(
    path: &PathBuf,
    options: &FjallOptions,
    batch_keys: u64,
    keys: u64,
    writes: u64,
) -> Result<(), Box<dyn Error>> {
    let mut engine = FjallEngine::open_with(path, options)?;
    let rss_empty = rss_mb();
    let stop = Arc::new(AtomicBool::new(false));
    let syncer = std::thread::spawn({
        let mut durability = engine.durability();
        let stop = Arc::clone(&stop);
        move || {
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let began = Instant::now();
                durability.make_durable().map_err(|error| error.to_string())?;
                longest = longest.max(began.elapsed());
            }
            Ok::<_, String>(longest)
        }
    });

    let mut seed = 1;
    let mut latencies = Vec::new();
    let cpu_began = cpu_seconds();
    let began = Instant::now();
    for _ in 0..writes / batch_keys {
        let changes = (0..batch_keys)
            .map(|_| (key(random(&mut seed) % keys), Some(value(&mut seed))))
            .collect();
        let batch_began = Instant::now();
        engine.write(WriteBatch { changes })?;
        latencies.push(batch_began.elapsed());
    }
    let wall = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu_began;
    stop.store(true, Ordering::Relaxed);
    let longest_sync = syncer.join().map_err(|_| "the syncing thread panicked")??;
    latencies.sort_unstable();
    let batches = latencies.len();
    let at = |share: f64| latencies[((batches - 1) as f64 * share) as usize];

    let gets = 300_000;
    let began = Instant::now();
    let mut found = 0;
    for _ in 0..gets {
        found += usize::from(engine.get(&key(random(&mut seed) % keys))?.is_some());
    }
    let get_wall = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut scanned = 0;
    for _ in 0..3_000 {
        scanned += engine
            .scan(&key(random(&mut seed) % keys), b"")
            .take(100)
            .filter(Result::is_ok)
            .count();
    }
    let scan_wall = began.elapsed().as_secs_f64();
    println!(
        "batch {batch_keys:3}: {:8.0} batches/s {:8.0} keys/s, cpu {:.2} us/key, p50 {:?} p99 {:?} p99.9 {:?} max {:?}; \
         sync max {longest_sync:?}; get {:.0}/s ({found} found); scan {:.0} pairs/s; rss {rss_empty} -> {} MB, size {} MB",
        batches as f64 / wall,
        (batches as u64 * batch_keys) as f64 / wall,
        cpu * 1e6 / (batches as u64 * batch_keys) as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        f64::from(gets) / get_wall,
        scanned as f64 / scan_wall,
        rss_mb(),
        engine.size_bytes() >> 20,
    );
    drop(engine);
    let began = Instant::now();
    let engine = FjallEngine::open_with(path, options)?;
    println!(
        "           reopened in {:?}, {} MB",
        began.elapsed(),
        engine.size_bytes() >> 20
    );
    Ok(())
}

fn key(number: u64) -> Bytes {
    // Spread over the key space: consecutive numbers are far apart.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

fn value(seed: &mut u64) -> Bytes {
    let mut value = [0; 128];
    for word in value.chunks_mut(8) {
        word.copy_from_slice(&random(seed).to_le_bytes());
    }
    Bytes::copy_from_slice(&value)
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Resident memory; 0 where /proc is missing.
fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        >> 10
}

/// User and system time of the process; 0 where /proc is missing.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |nth| {
        stat.split_whitespace()
            .nth(nth)
            .and_then(|field: &str| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(13) + ticks(14)) / 100.0
}
