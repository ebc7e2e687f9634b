//! `bench`: closed-loop load over RESP, against Quorate or any server that speaks Redis's protocol.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Failure;
use crate::client::Client;
use crate::client::slots::SlotMap;
use plan::{Limit, Phase, Plan, Work};
use stats::Stats;
use worker::Worker;

mod conn;
mod history;
mod plan;
mod report;
mod stats;
mod worker;

/// `bench`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Every client has one batch of --pipeline commands outstanding and sends the next when it is \
                        answered. Keys are key-000000000000 and so on, uniform; values are random bytes. Latency \
                        is from the sending of a batch to the arrival of each of its replies."
)]
pub struct BenchArgs {
    /// Servers, HOST:PORT, separated by commas; the clients are spread over them
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001",
        value_name = "ADDRS"
    )]
    endpoints: Vec<String>,
    /// Send each key to the node that serves its slot (CLUSTER SLOTS), as cluster-aware clients do
    #[arg(long)]
    cluster: bool,
    /// Clients at a time
    #[arg(long, short, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Commands that a client sends at once
    #[arg(long, short = 'P', default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 128, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=512 << 20))]
    value_size: u32,
    /// Share of reads, 0 (only SET) to 1 (only GET) [default: 0, with --history 0.5]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    read_share: Option<f64>,
    /// Distinct keys [default: 100000, with --history 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=999_999_999_999))]
    keys: Option<u64>,
    /// Measure for this long
    #[arg(long, default_value_t = 10.0, value_name = "S", value_parser = parse_seconds, conflicts_with = "ops")]
    seconds: f64,
    /// Measure this many operations instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// Load before the measurement, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "S", value_parser = parse_seconds)]
    warmup: f64,
    /// Send each SET by ONCE, in a session of its client that acknowledges what was answered
    #[arg(long, conflicts_with = "history")]
    once: bool,
    /// Write every key once first, so that reads find them
    #[arg(long)]
    fill: bool,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// An operation without an answer after this time has failed
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
    /// The same seed gives the same keys and values
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Record every operation into this file, for `quorate check`. The load is another one then: SET (with NX, XX
    /// and GET), APPEND, DEL, GETDEL and INCR of short values, on few new keys that all clients share
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fill", "value_size"])]
    history: Option<PathBuf>,
    /// Print one line of JSON, latencies in microseconds
    #[arg(long)]
    json: bool,
}

/// Runs the load and prints the report; fails if nothing succeeded.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    if args.history.is_some() && args.keys.is_some_and(|keys| keys > plan::HISTORY_KEYS_MAX) {
        let message = format!("--history with more than {} --keys", plan::HISTORY_KEYS_MAX);
        return Err(Failure::usage(message));
    }
    let map = discover(&args)?;
    let plan = Arc::new(plan(&args));
    let workers = (0..plan.threads)
        .map(|thread| Worker::new(plan.clone(), thread, map.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::new(format!("cannot watch sockets: {error}")))?;
    stop_on_signal(&plan)?;

    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| std::thread::spawn(move || worker.run()))
        .collect();
    show_progress(&plan, args.json, || {
        threads.iter().all(|thread| thread.is_finished())
    });
    let finished = Instant::now();
    let mut total = Stats::new();
    let mut histories = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok((stats, history)) => {
                total.merge(&stats);
                histories.extend(history);
            }
            Err(_) => return Err(Failure::new("a thread of the load generator panicked")),
        }
    }

    let elapsed = elapsed(&plan, finished);
    if args.json {
        println!("{}", report::json(&plan, &total, elapsed));
    } else {
        print!("{}", report::text(&plan, &total, elapsed));
    }
    if let Some(path) = &args.history {
        let count = history::save(histories, path)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        let path = path.display();
        eprintln!("{count} operations in {path}; judge them with: quorate check {path}");
    }
    if total.ops() == 0 {
        return Err(Failure::new("no operation succeeded"));
    }
    Ok(())
}

/// Asks every endpoint once, so that a wrong address is an error now and not a million errors later.
fn discover(args: &BenchArgs) -> Result<SlotMap, Failure> {
    let timeout = Duration::from_millis(args.timeout_ms.min(5000));
    let mut map = SlotMap::default();
    for endpoint in &args.endpoints {
        map.intern(endpoint);
    }
    let mut routed = false;
    for endpoint in &args.endpoints {
        let mut client =
            Client::connect(endpoint, timeout).map_err(|error| Failure::new(error.to_string()))?;
        if args.cluster && !routed {
            let reply = client
                .command(&[b"CLUSTER", b"SLOTS"])
                .map_err(|error| Failure::new(error.to_string()))?;
            routed = map.take(&reply, endpoint);
            if !routed {
                return Err(Failure::new(format!(
                    "{endpoint} serves no CLUSTER SLOTS: {reply:?}"
                )));
            }
        }
    }
    Ok(map)
}

fn plan(args: &BenchArgs) -> Plan {
    let clients = args.clients as usize;
    let threads = (args.threads as usize).min(clients);
    let records = args.history.is_some();
    let keys = args.keys.unwrap_or(if records { 16 } else { 100_000 });
    let seconds = |s: f64| Limit::Time(Duration::from_secs_f64(s));
    let mut phases = vec![Phase::new(Work::Connect, Limit::Ops(clients as u64), false)];
    if args.fill {
        phases.push(Phase::new(Work::Fill, Limit::Ops(keys), false));
    }
    if args.warmup > 0.0 {
        phases.push(Phase::new(Work::Mix, seconds(args.warmup), false));
    }
    phases.push(Phase::new(
        Work::Mix,
        args.ops.map_or(seconds(args.seconds), Limit::Ops),
        true,
    ));
    Plan {
        endpoints: args.endpoints.clone(),
        threads,
        clients,
        pipeline: args.pipeline as usize,
        value_size: args.value_size as usize,
        read_share: args.read_share.unwrap_or(if records { 0.5 } else { 0.0 }),
        keys,
        timeout: Duration::from_millis(args.timeout_ms),
        seed: args.seed,
        once: args.once,
        history: records.then(tag),
        epoch: Instant::now(),
        phases,
        gate: Barrier::new(threads),
        stop: AtomicBool::new(false),
    }
}

/// What no earlier invocation is likely to have had: keys of a history must not exist before it begins.
fn tag() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_micros() as u64 >> 4) as u32 ^ std::process::id().rotate_left(16)
}

/// Ctrl-C ends the load early; the report is printed all the same. A second one ends the process.
fn stop_on_signal(plan: &Arc<Plan>) -> Result<(), Failure> {
    let failure = |error| Failure::new(format!("cannot watch for signals: {error}"));
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone()).map_err(failure)?;
        signal_hook::flag::register(signal, flag.clone()).map_err(failure)?;
    }
    let plan = plan.clone();
    std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        plan.stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn show_progress(plan: &Plan, json: bool, finished: impl Fn() -> bool) {
    let shown = !json && std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(
        Some(1000),
        if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        },
    );
    // The template is a constant and valid; the default one would do as well.
    if let Ok(style) = ProgressStyle::with_template("{prefix:>8} [{bar:40}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut last = (Instant::now(), 0u64, 0usize);
    while !finished() {
        std::thread::sleep(Duration::from_millis(if shown { 100 } else { 10 }));
        let Some((n, phase)) = plan
            .phases
            .iter()
            .enumerate()
            .rev()
            .find(|(_, phase)| phase.begun().is_some())
        else {
            continue;
        };
        let (done, now) = (phase.done.load(Ordering::Relaxed), Instant::now());
        if n != last.2 {
            last = (phase.begin(), 0, n);
        }
        let since = now.saturating_duration_since(last.0);
        if !shown || since < Duration::from_millis(100) {
            continue;
        }
        bar.set_prefix(match (phase.work, phase.measured) {
            (Work::Connect, _) => "connect",
            (Work::Fill, _) => "fill",
            (Work::Mix, false) => "warm up",
            (Work::Mix, true) => "measure",
        });
        let share = match phase.limit {
            Limit::Time(length) => phase.begin().elapsed().as_secs_f64() / length.as_secs_f64().max(1e-9),
            Limit::Ops(ops) => done as f64 / ops.max(1) as f64,
        };
        bar.set_position((share.min(1.0) * 1000.0) as u64);
        bar.set_message(format!(
            "{:.0} operations/s",
            (done - last.1) as f64 / since.as_secs_f64()
        ));
        last = (now, done, n);
    }
    bar.finish_and_clear();
}

/// The length of the measured phase: as asked for, or until the last operation was answered.
fn elapsed(plan: &Plan, finished: Instant) -> Duration {
    let Some(phase) = plan.phases.last() else {
        return Duration::ZERO;
    };
    let real = phase
        .begun()
        .map_or(Duration::ZERO, |begun| finished.saturating_duration_since(begun));
    match phase.limit {
        Limit::Time(length) => length.min(real),
        Limit::Ops(_) => real,
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 to 1".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, from 0 to 1000000".to_owned()),
    }
}
