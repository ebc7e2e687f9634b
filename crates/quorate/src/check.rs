//! `check`: whether histories are linearizable.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_sim::linearizability::{
    Budget, ModelKind, RecordedHistory, Verdict, html, known_histories, read_history,
};

/// All histories are linearizable, or have their known verdict.
const LINEARIZABLE: u8 = 0;
/// One is not, or has another verdict than it should.
const NOT_LINEARIZABLE: u8 = 1;
/// Of one it is not known, or it could not be read.
const UNKNOWN: u8 = 2;

/// `check`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Prints a line for each file on standard output: `FILE: linearizable`, `FILE: not linearizable` or \
                  `FILE: unknown: WHY`. Why a history is not linearizable goes to standard error. The format of a \
                  file is told by its first line: Quorate's own (docs/formats-history.md), porcupine's test data, \
                  or Jepsen's log of an etcd register.\n\nExit codes, the highest that fits: 0 linearizable; 1 not \
                  linearizable; 2 unknown, or it could not be read. With --conformance: 0 all verdicts are as \
                  known; 1 one is the opposite; 2 one is unknown."
)]
pub struct CheckArgs {
    /// Hold every history against this model instead of the one that its file names
    #[arg(long, value_name = "MODEL")]
    model: Option<Model>,
    /// Draw why histories are not linearizable: one page, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Seconds for each file, after which its verdict is unknown; explaining may take as long again
    #[arg(long, default_value_t = 60.0, value_name = "S", value_parser = parse_seconds)]
    budget: f64,
    /// Memory for each file, in MB, beyond which its verdict is unknown
    #[arg(long, default_value_t = 1024, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory: u64,
    /// Check the histories below this directory against their known verdicts: files named NAME-ok.* and
    /// NAME-bad.*, and those that an EXPECTED.txt lists
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    conformance: Option<PathBuf>,
    /// Histories
    #[arg(value_name = "FILE", required_unless_present = "conformance")]
    files: Vec<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Model {
    /// Keys with values
    Kv,
    /// One integer that is read, written and compared
    Register,
}

/// Checks and prints.
pub fn run(args: &CheckArgs) -> ExitCode {
    let result = match &args.conformance {
        Some(dir) => conformance(args, dir),
        None => files(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("quorate: {message}");
            ExitCode::from(UNKNOWN)
        }
    }
}

fn files(args: &CheckArgs) -> Result<u8, String> {
    let mut verdicts = Vec::new();
    for path in &args.files {
        let verdict = check(args, path);
        println!("{}: {verdict}", path.display());
        if let Verdict::NotLinearizable(explanation) = &verdict {
            for line in explanation.to_string().lines() {
                eprintln!("  {line}");
            }
        }
        verdicts.push((path.display().to_string(), verdict));
    }
    draw(args, &verdicts)?;
    let code = |verdict: &Verdict| match verdict {
        Verdict::Linearizable => LINEARIZABLE,
        Verdict::NotLinearizable(_) => NOT_LINEARIZABLE,
        Verdict::Unknown(_) => UNKNOWN,
    };
    let worst = verdicts.iter().map(|(_, verdict)| code(verdict)).max();
    Ok(worst.unwrap_or(LINEARIZABLE))
}

fn conformance(args: &CheckArgs, dir: &Path) -> Result<u8, String> {
    let began = Instant::now();
    let known = known_histories(dir).map_err(|error| error.to_string())?;
    let mut verdicts = Vec::new();
    let mut codes = Vec::new();
    for history in &known {
        let verdict = check(args, &history.path);
        let (code, remark) = match (&verdict, history.is_linearizable) {
            (Verdict::Linearizable, true) | (Verdict::NotLinearizable(_), false) => {
                (LINEARIZABLE, "as known")
            }
            (Verdict::Linearizable, false) | (Verdict::NotLinearizable(_), true) => {
                (NOT_LINEARIZABLE, "WRONG, the opposite is known")
            }
            (Verdict::Unknown(_), _) => (UNKNOWN, "its verdict is known"),
        };
        println!("{}: {verdict} ({remark})", history.path.display());
        verdicts.push((history.path.display().to_string(), verdict));
        codes.push(code);
    }
    let right = codes.iter().filter(|code| **code == LINEARIZABLE).count();
    println!(
        "{right} of {} histories have their known verdict, in {:.2} s",
        known.len(),
        began.elapsed().as_secs_f64()
    );
    draw(args, &verdicts)?;
    Ok(codes.into_iter().max().unwrap_or(LINEARIZABLE))
}

fn check(args: &CheckArgs, path: &Path) -> Verdict {
    let budget = Budget {
        steps: u64::MAX,
        bytes: (args.memory << 20) as usize,
        time: Some(Duration::from_secs_f64(args.budget)),
    };
    match read(args, path, budget.bytes) {
        Ok(recorded) => recorded.check(&budget),
        Err(why) => Verdict::Unknown(why),
    }
}

fn read(args: &CheckArgs, path: &Path, bytes_max: usize) -> Result<RecordedHistory, String> {
    let mut recorded = read_history(path, bytes_max).map_err(|error| error.reason())?;
    if let Some(model) = args.model {
        recorded.judge_as(match model {
            Model::Kv => ModelKind::Kv,
            Model::Register => ModelKind::Register,
        })?;
    }
    Ok(recorded)
}

fn draw(args: &CheckArgs, verdicts: &[(String, Verdict)]) -> Result<(), String> {
    let Some(path) = &args.html else {
        return Ok(());
    };
    std::fs::write(path, html(verdicts)).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, from 0.001 to 1000000".to_owned()),
    }
}
