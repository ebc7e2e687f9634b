//! Runs simulations from the command line.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_sim::{Options, Profile, Report, run};

const HELP: &str = "\
Simulates clusters from seeds and checks that every property holds.

USAGE
  quorate-sim [--profile P] [--seeds N] [--start S] [--threads T]   N seeds from S on (default: 100 fresh ones)
  quorate-sim [--profile P] --seed S [--trace]                      one seed

OPTIONS
  --profile P    calm, lossy, crashy, everything, or all (default)
  --keep-going   go on after a failure
  --nodes N, --shards N, --fault-ms N   instead of what the seed says
";

struct Args {
    profiles: Vec<Profile>,
    start: Option<u64>,
    seeds: u64,
    threads: usize,
    keep_going: bool,
    options: Options,
}

fn parse() -> Result<Option<Args>, String> {
    let mut args = Args {
        profiles: Profile::ALL.to_vec(),
        start: None,
        seeds: 100,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        keep_going: false,
        options: Options::default(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text}: not a number"));
        match word.as_str() {
            "--profile" => {
                let name = value()?;
                if name != "all" {
                    args.profiles = vec![name.parse()?];
                }
            }
            "--seed" => {
                args.start = Some(number(value()?)?);
                args.seeds = 1;
            }
            "--start" => args.start = Some(number(value()?)?),
            "--seeds" => args.seeds = number(value()?)?,
            "--threads" => args.threads = number(value()?)?.max(1) as usize,
            "--keep-going" => args.keep_going = true,
            "--trace" => args.options.trace = Some(|line| println!("{line}")),
            "--nodes" => args.options.nodes = Some(number(value()?)?),
            "--shards" => args.options.shards = Some(number(value()?)? as u16),
            "--fault-ms" => args.options.fault_ms = Some(number(value()?)?),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other}: no such option")),
        }
    }
    Ok(Some(args))
}

/// A start that no earlier invocation had.
fn fresh() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<(Profile, u64, &'static str)>,
    virtual_us: u64,
    events: u64,
    writes: u64,
    reads: u64,
    unknown: u64,
    refused: u64,
    elections: u64,
    snapshots: u64,
    deaths: u64,
    faults: u64,
    progress_us: u64,
    convergence_us: u64,
    slowest: (Duration, u64),
}

impl Sum {
    fn add(&mut self, report: &Report, took: Duration) {
        self.virtual_us += report.virtual_us;
        self.events += report.events;
        self.writes += report.outcomes.writes_done;
        self.reads += report.outcomes.reads_done;
        self.unknown += report.outcomes.unknown;
        self.refused += report.outcomes.refused;
        self.elections += report.counts.elections;
        self.snapshots += report.counts.snapshots;
        self.deaths += report.counts.deaths;
        self.faults += report.counts.faults;
        self.progress_us = self.progress_us.max(report.recovery.progress_us);
        self.convergence_us = self.convergence_us.max(report.recovery.convergence_us);
        self.slowest = self.slowest.max((took, report.seed));
    }
}

fn simulate(args: &Args, profile: Profile, start: u64) -> Sum {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let lock = || sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..args.threads.min(args.seeds as usize) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= args.seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = start.wrapping_add(n);
                    let began = Instant::now();
                    let result = run(seed, profile, &args.options);
                    let mut sum = lock();
                    sum.runs += 1;
                    match result {
                        Ok(report) => {
                            if args.seeds == 1 {
                                println!("{report:#?}");
                            }
                            sum.add(&report, began.elapsed());
                        }
                        Err(failure) => {
                            println!("{failure}\n");
                            sum.failed.push((profile, seed, failure.violation.property));
                            stop.fetch_or(!args.keep_going, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    sum.into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("quorate-sim: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let start = args.start.unwrap_or_else(fresh);
    let mut failed = false;
    for profile in &args.profiles {
        let began = Instant::now();
        let sum = simulate(&args, *profile, start);
        println!(
            "{profile}: {} seeds from {start}, {} failed, {:.1} s ({:.2} s the slowest, {}); {:.0} virtual s, {} events, \
             {} writes, {} reads, {} unknown, {} refused, {} elections, {} snapshots, {} deaths, {} faults; \
             slowest recovery {} ms, then {} ms until equal",
            sum.runs,
            sum.failed.len(),
            began.elapsed().as_secs_f64(),
            sum.slowest.0.as_secs_f64(),
            sum.slowest.1,
            sum.virtual_us as f64 / 1e6,
            sum.events,
            sum.writes,
            sum.reads,
            sum.unknown,
            sum.refused,
            sum.elections,
            sum.snapshots,
            sum.deaths,
            sum.faults,
            sum.progress_us / 1000,
            sum.convergence_us / 1000,
        );
        for (profile, seed, property) in &sum.failed {
            println!("  failed: {profile} {seed}: {property}");
        }
        failed |= !sum.failed.is_empty();
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
