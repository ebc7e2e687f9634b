//! `sim`: simulates whole clusters from seeds and checks every property; see docs/testing.md.

use std::fs::File;
use std::io::{BufWriter, Stdout, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use quorate_sim::linearizability::{History, ModelKind, write_history};
use quorate_sim::{
    Batch, Fault, Options, PlacementCounts, Profile, Sink, Size, Summary, run_recorded, shrink,
};

use rustix::time::{ClockId, clock_gettime};

use crate::cli::Failure;
use crate::output;

/// Runs that making a failure smaller may take.
const SHRINK_ATTEMPTS: u64 = 200;

/// `sim`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Profiles: calm, lossy, crashy, disk, clock, moves, splits, placement, everything.\n\nA seed that fails is \
                  replayed, with a trace of every message, turn, fault and answer, by the command that the failure \
                  prints. See docs/testing.md."
)]
pub struct SimArgs {
    /// What the surroundings are like; `all` is every profile in turn
    #[arg(long, short, default_value = "everything", value_name = "P", value_parser = parse_profiles)]
    profile: Profiles,
    /// Replay this seed with a trace
    #[arg(long, short, value_name = "S", conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Simulate this many seeds, ending at the first that fails
    #[arg(long, default_value_t = 100, value_name = "N")]
    seeds: u64,
    /// The first seed, instead of a fresh one
    #[arg(long, value_name = "S")]
    start: Option<u64>,
    /// Threads; the results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// A few virtual seconds and no least number of operations, instead of a minute and 2,000
    #[arg(long)]
    short: bool,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Do not make a failing run smaller
    #[arg(long)]
    no_shrink: bool,
    /// With --seed: write what the clients saw into this file, for `quorate check`
    #[arg(long, value_name = "FILE", requires = "seed")]
    history: Option<PathBuf>,
    /// No trace
    #[arg(long, short)]
    quiet: bool,
    /// Stop at this virtual time, in seconds
    #[arg(long, value_name = "T", value_parser = parse_seconds)]
    until: Option<u64>,
    /// Stores, instead of what the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Data shards, instead of what the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Option<u16>,
    /// Replicas of each data shard, instead of what the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: Option<u8>,
    /// At most this many of the seed's clients
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// Virtual milliseconds of the phase with faults, instead of what the seed says
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    fault_ms: Option<u64>,
    /// Of the seed's kinds of faults only these, separated by commas; `none` for none
    #[arg(long, value_name = "KINDS", value_parser = parse_faults)]
    faults: Option<Faults>,
    /// Numbers of faults that do not strike, separated by commas
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    skip_faults: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Profiles(Vec<Profile>);

#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn parse_profiles(text: &str) -> Result<Profiles, String> {
    if text == "all" {
        return Ok(Profiles(Profile::ALL.to_vec()));
    }
    text.parse().map(|profile| Profiles(vec![profile]))
}

fn parse_faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    text.split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map(Faults)
}

/// Seconds with up to six decimals, as microseconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: not a time in seconds, such as 12.5");
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(decimals) || decimals.len() > 6 {
        return Err(wrong());
    }
    let seconds: u64 = seconds.parse().map_err(|_| wrong())?;
    let micros: u64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    seconds
        .checked_mul(1_000_000)
        .and_then(|us| us.checked_add(micros))
        .ok_or_else(wrong)
}

/// Simulates what was asked for; fails if a property does not hold.
pub fn run(args: SimArgs) -> Result<(), Failure> {
    let options = Options {
        size: if args.short { Size::Short } else { Size::Full },
        nodes: args.nodes,
        shards: args.shards,
        replicas: args.replicas,
        clients: args.clients,
        faults: args.faults.clone().map(|Faults(kinds)| kinds),
        skip_faults: args.skip_faults.clone(),
        fault_ms: args.fault_ms,
        until_us: args.until,
        trace: None,
    };
    match args.seed {
        Some(seed) => replay(&args, seed, &options),
        None => many(&args, &options),
    }
}

/// One seed of each profile, with a trace.
fn replay(args: &SimArgs, seed: u64, options: &Options) -> Result<(), Failure> {
    if args.history.is_some() && args.profile.0.len() > 1 {
        let wrong = "--history writes one run: give one --profile, not all";
        return Err(Failure::new(wrong.to_owned()));
    }
    let out = Arc::new(Mutex::new(BufWriter::new(std::io::stdout())));
    let options = Options {
        trace: (!args.quiet).then(|| trace_to(out.clone())),
        ..options.clone()
    };
    for profile in &args.profile.0 {
        let (result, history) = run_recorded(seed, *profile, &options);
        lock(&out)
            .flush()
            .unwrap_or_else(|error| output::not_taken(&error));
        let saved = args.history.as_ref().map_or(Ok(()), |path| save(&history, path));
        match result {
            Ok(report) => println!("{report:#?}"),
            Err(failure) => return Err(failed(args, &failure)),
        }
        saved?;
    }
    Ok(())
}

fn save(history: &History, path: &Path) -> Result<(), Failure> {
    let write = || {
        let mut out = BufWriter::new(File::create(path)?);
        write_history(history, ModelKind::Kv, &mut out)?;
        out.flush()
    };
    write().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

fn lock(out: &Mutex<BufWriter<Stdout>>) -> std::sync::MutexGuard<'_, BufWriter<Stdout>> {
    out.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trace_to(out: Arc<Mutex<BufWriter<Stdout>>>) -> Sink {
    Sink::new(move |line| {
        if let Err(error) = writeln!(lock(&out), "{line}") {
            output::not_taken(&error);
        }
    })
}

fn many(args: &SimArgs, options: &Options) -> Result<(), Failure> {
    let start = args.start.unwrap_or_else(fresh);
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let batch = Batch {
        seeds: start..start.saturating_add(args.seeds),
        threads,
        keep_going: args.keep_going,
    };
    let mut first = None;
    for profile in &args.profile.0 {
        println!("{profile}: {} seeds from {start}", args.seeds);
        let before = cpu_s();
        let summary = batch.run(*profile, options);
        print(&summary, threads, cpu_s() - before);
        first = first.or(summary.failures.into_iter().next());
        if first.is_some() && !args.keep_going {
            break;
        }
    }
    first.map_or(Ok(()), |failure| Err(failed(args, &failure)))
}

/// A start that no earlier invocation had.
fn fresh() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Seconds of processor time that this process has used.
fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn print(summary: &Summary, threads: usize, cpu_s: f64) {
    let wall = summary.wall.as_secs_f64();
    let virtual_s = summary.virtual_us as f64 / 1e6;
    let (operations, faults) = summary.least.unwrap_or_default();
    let ms = |us: u64| us / 1000;
    println!(
        "  {} runs, {} failed; {wall:.1} s of wall time on {threads} threads, the slowest run {:.2} s (seed {})",
        summary.runs,
        summary.failures.len(),
        summary.slowest.0.as_secs_f64(),
        summary.slowest.1
    );
    println!(
        "  {:.2} simulated hours; {} operations checked ({} unknown), at least {operations} a run; {} faults injected, at \
         least {faults} a run",
        virtual_s / 3600.0,
        summary.operations,
        summary.unknown,
        summary.faults
    );
    if summary.unjudged > 0 {
        println!(
            "  of {} runs the history as a whole was beyond the checker's budget; its answers were judged one by one",
            summary.unjudged
        );
    }
    println!(
        "  {} messages, {} elections, {} snapshots ({} from followers), {} ends of processes; slowest recovery {} ms, placed after {} ms, then {} ms until equal",
        summary.messages,
        summary.elections,
        summary.snapshots,
        summary.snapshots_by_followers,
        summary.deaths,
        ms(summary.progress_us_max),
        ms(summary.settled_us_max),
        ms(summary.convergence_us_max)
    );
    print_placement(&summary.placement);
    println!(
        "  {cpu_s:.1} s of processor time; for each of them {:.0} virtual seconds, {:.0} operations, {:.0} events",
        virtual_s / cpu_s,
        summary.operations as f64 / cpu_s,
        summary.events as f64 / cpu_s
    );
    println!("  digest {:016x}", summary.digest);
    for failure in &summary.failures {
        println!("  failed: seed {}: {}", failure.seed, failure.violation.property);
    }
}

/// Nothing, if nobody had anything placed.
fn print_placement(of: &PlacementCounts) {
    if *of == PlacementCounts::default() {
        return;
    }
    println!(
        "  {} joins, {} leaves, {} regroupings, {} shards to other groups; {} drains, {} removals ({} told), {} stores born",
        of.joins, of.leaves, of.regroups, of.moves, of.drains, of.removals, of.told_gone, of.births
    );
    println!(
        "  in the middle of a change: the controller's leader struck {} times, others {} times",
        of.controllers_struck, of.others_struck
    );
}

/// Prints a failure and a smaller run that fails in the same way.
fn failed(args: &SimArgs, failure: &quorate_sim::Failure) -> Failure {
    println!("{failure}");
    if !args.no_shrink && args.until.is_none() {
        let (smaller, attempts) = shrink(failure, SHRINK_ATTEMPTS);
        println!("\nsmaller, found in {attempts} runs:\n{smaller}");
    }
    Failure::new(format!(
        "seed {} of profile {} failed: {}",
        failure.seed, failure.profile, failure.violation.property
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        assert_eq!(parse_seconds("12"), Ok(12_000_000));
        assert_eq!(parse_seconds("0.25"), Ok(250_000));
        assert_eq!(parse_seconds("3.000001"), Ok(3_000_001));
        for wrong in ["", ".5", "1.0000001", "-1", "1e3", "99999999999999999999"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_of_faults_and_profiles_are_read() {
        assert_eq!(
            parse_faults("kill,one-way").unwrap().0,
            vec![Fault::Kill, Fault::OneWay]
        );
        assert!(parse_faults("none").unwrap().0.is_empty());
        assert!(parse_faults("kill,flood").is_err());
        assert_eq!(parse_profiles("all").unwrap().0.len(), Profile::ALL.len());
        assert!(parse_profiles("chaos").is_err());
    }
}
