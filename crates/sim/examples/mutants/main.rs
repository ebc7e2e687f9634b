//! Runs every mutant until something catches it, and prints who did.
//!
//! ```text
//! cargo run --release -p quorate-sim --features mutants --example mutants
//! ```
//!
//! Exits with 1 if a mutant survives its seeds. `--help` tells the options.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use left_behind::Judged;
use lost_majority::{Seen, THREE_OF_EIGHT, TWO_OF_FIVE};
use quorate_raft::mutants::activate;
use quorate_sim::{Options, Profile};

mod table;

// The suites of the components, as they are; they expect their modules at the root.
#[path = "../../../raft/tests/safety/cluster.rs"]
mod cluster;
#[path = "../../../raft/tests/safety/faults.rs"]
mod faults;
#[path = "../../../raft/tests/safety/heal.rs"]
mod heal;
#[path = "../../tests/lab/left_behind.rs"]
#[allow(dead_code, reason = "its tests are not compiled here")]
mod left_behind;
#[path = "../../../storage/tests/log_power_loss.rs"]
#[allow(dead_code, reason = "its tests are not compiled here")]
mod log_power_loss;
#[path = "../../tests/lab/lost_majority.rs"]
#[allow(dead_code, reason = "its tests are not compiled here")]
mod lost_majority;
#[path = "../../../raft/tests/safety/member.rs"]
mod member;
#[path = "../../../raft/tests/safety/properties.rs"]
#[allow(dead_code, reason = "its tests are not compiled here")]
mod properties;
#[path = "../../../raft/tests/behaviour/rng.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rng;
#[path = "../../tests/lab/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use table::{Mutant, Suite, mutants};

/// Steps with faults in a run of the core.
const CORE_STEPS: u32 = 12_000;

const HELP: &str = "\
Runs every mutant until something catches it.

OPTIONS
  --only NAMES    these mutants, comma-separated
  --seeds N       give up after so many seeds (default 400; 8000 of the suites core and log, whose seeds are short)
  --start S       the first seed (default 1)
  --threads T     default: one per processor
  --profile P     look in this profile of the simulator, or in the suite core, log or recovery, instead of the listed one
  --short         short seeds of the simulator: a few virtual seconds instead of a minute
  --verbose       the seed, and what the property saw
  --control       no mutant at all: the seeds must pass
  --markdown      the table as it stands in docs/mutants.md
";

struct Args {
    mutants: Vec<Mutant>,
    seeds: Option<u64>,
    start: u64,
    threads: usize,
    suite: Option<Suite>,
    options: Options,
    control: bool,
    verbose: bool,
    markdown: bool,
}

fn parse() -> Result<Option<Args>, String> {
    let mut args = Args {
        mutants: mutants(),
        seeds: None,
        start: 1,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        suite: None,
        options: Options::default(),
        control: false,
        verbose: false,
        markdown: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text}: not a number"));
        match word.as_str() {
            "--only" => {
                let names = value()?;
                let known = |name: &str| mutants().into_iter().find(|mutant| mutant.name == name);
                let found = names
                    .split(',')
                    .map(|name| known(name).ok_or_else(|| format!("{name}: no such mutant")));
                args.mutants = found.collect::<Result<_, _>>()?;
            }
            "--seeds" => args.seeds = Some(number(value()?)?),
            "--start" => args.start = number(value()?)?,
            "--threads" => args.threads = number(value()?)?.max(1) as usize,
            "--profile" => {
                args.suite = Some(match value()?.as_str() {
                    "core" => Suite::Core,
                    "log" => Suite::Log,
                    "recovery" => Suite::Recovery,
                    profile => Suite::Cluster(profile.parse::<Profile>()?.name()),
                });
            }
            "--short" => args.options = Options::short(),
            "--verbose" => args.verbose = true,
            "--control" => args.control = true,
            "--markdown" => args.markdown = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other}: no such option")),
        }
    }
    Ok(Some(args))
}

/// How the search for a mutant ended.
struct Found {
    mutant: Mutant,
    suite: Suite,
    /// Seeds that it took, and the property that saw it; none if it survived all seeds.
    caught: Option<(u64, String)>,
    /// How often its hook was passed.
    passed: u64,
    seconds: f64,
}

/// Runs one seed of a suite; returns what it found wrong.
fn run(suite: Suite, seed: u64, options: &Options) -> Result<(), String> {
    let component = |run: &mut dyn FnMut()| {
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic without a message").to_string()
        })
    };
    match suite {
        Suite::Core => component(&mut || {
            let mut cluster = cluster::Cluster::new(seed);
            (0..CORE_STEPS).for_each(|_| cluster.fault_step());
            cluster.heal();
        }),
        Suite::Log => component(&mut || {
            log_power_loss::run(seed);
        }),
        Suite::Recovery => {
            let mut result = Ok(());
            component(&mut || {
                result = match seed % 4 {
                    0 => left_behind::run(seed, &Judged::default()),
                    2 => lost_majority::run(seed, TWO_OF_FIVE, &Seen::default()),
                    _ => lost_majority::run(seed, THREE_OF_EIGHT, &Seen::default()),
                }
            })?;
            result.map_err(|violation| format!("{}\n    {}", violation.property, violation.detail))
        }
        Suite::Cluster(profile) => {
            let profile: Profile = profile.parse()?;
            quorate_sim::run(seed, profile, options)
                .map(|_| ())
                .map_err(|failure| match failure.violation.property {
                    // Behind the place, which moves with the code.
                    "no assertion fails" => match failure.violation.detail.split_once('\n') {
                        Some((_, said)) => said.to_owned(),
                        None => failure.violation.detail,
                    },
                    property => format!("{property}\n    {}", failure.violation.detail),
                })
        }
    }
}

/// After how many seeds of a suite the search is given up.
fn seeds(args: &Args, suite: Suite) -> u64 {
    args.seeds.unwrap_or(match suite {
        Suite::Cluster(_) | Suite::Recovery => 400,
        Suite::Core | Suite::Log => 8000,
    })
}

fn search(mutant: Mutant, args: &Args) -> Found {
    let began = Instant::now();
    let suite = args.suite.unwrap_or(mutant.suite);
    let mut passed = 0;
    let mut caught = None;
    for n in 0..seeds(args, suite) {
        activate(mutant.name);
        let result = run(suite, args.start + n, &args.options);
        passed += activate("");
        // A seed that fails without the mutant as well says nothing about it.
        if let Err(seen) = result
            && run(suite, args.start + n, &args.options).is_ok()
        {
            caught = Some((n + 1, seen));
            break;
        }
    }
    Found {
        mutant,
        suite,
        caught,
        passed,
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// Runs the seeds without a mutant; returns whether all of them pass.
fn control(args: &Args) -> bool {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let suite = args.suite.unwrap_or(Suite::Cluster("everything"));
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if n >= seeds(args, suite) {
                        return;
                    }
                    if let Err(seen) = run(suite, args.start + n, &args.options) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("seed {} fails without a mutant: {seen}", args.start + n);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!(
        "{} seeds of {} without a mutant, {failed} failed",
        seeds(args, suite),
        shown(suite)
    );
    failed == 0
}

fn shown(suite: Suite) -> String {
    match suite {
        Suite::Cluster(profile) => format!("cluster, {profile}"),
        Suite::Core => "core".into(),
        Suite::Log => "log".into(),
        Suite::Recovery => "recovery".into(),
    }
}

/// The first line, cut where it would not fit a table.
fn short(text: &str, len: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(len) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_string(),
    }
}

fn print(found: &Found, markdown: bool) {
    let Found {
        mutant,
        suite,
        caught,
        passed,
        seconds,
    } = found;
    let suite = shown(*suite);
    let (seeds, seen) = match caught {
        Some((seeds, seen)) if seen.starts_with(mutant.check) => (seeds.to_string(), short(seen, 90)),
        // No mistake: what a bug breaks first is a matter of chance.
        Some((seeds, seen)) if !markdown => (
            seeds.to_string(),
            format!("{} (listed: {})", short(seen, 90), mutant.check),
        ),
        Some((seeds, seen)) => (seeds.to_string(), short(seen, 90)),
        None if *passed == 0 => ("-".into(), "SURVIVED: its hook was never passed".into()),
        None => (
            "-".into(),
            format!("SURVIVED: its hook was passed {passed} times"),
        ),
    };
    if markdown {
        println!(
            "| {} | `{}` | {} | {suite} | {seeds} | {seen} |",
            mutant.area, mutant.name, mutant.breaks
        );
    } else {
        println!("{:42} {suite:20} {seeds:>5} {seconds:>7.1}s  {seen}", mutant.name);
    }
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("mutants: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // A mutant that is caught by an assertion is no news.
    std::panic::set_hook(Box::new(|_| {}));
    if args.control {
        return if control(&args) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let next = AtomicUsize::new(0);
    let all: Mutex<Vec<Option<Found>>> = Mutex::new(args.mutants.iter().map(|_| None).collect());
    let lock = || all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..args.threads.min(args.mutants.len()) {
            scope.spawn(|| {
                while let Some((at, mutant)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| Some((at, *args.mutants.get(at)?)))
                {
                    let found = search(mutant, &args);
                    let mut all = lock();
                    if !args.markdown {
                        print(&found, false);
                        if let (true, Some((seeds, seen))) = (args.verbose, &found.caught) {
                            println!("    seed {}: {seen}", args.start + seeds - 1);
                        }
                    }
                    all[at] = Some(found);
                }
            });
        }
    });
    let found: Vec<Found> = all
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .into_iter()
        .flatten()
        .collect();
    if args.markdown {
        println!(
            "| area | mutant | what it breaks | suite | seeds | seen by |\n| --- | --- | --- | --- | --- | --- |"
        );
        found.iter().for_each(|found| print(found, true));
    }
    let survived = found.iter().filter(|found| found.caught.is_none()).count();
    println!(
        "\n{} mutants, {} caught, {survived} survived",
        found.len(),
        found.len() - survived
    );
    if survived == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
