//! The comparison, as Markdown.

use crate::cluster::{Proposing, Source};
use crate::runs::{Library, Run};

/// What stands in the columns.
const COLUMNS: [(Library, &str); 6] = [
    (Library::RaftRs, "plain"),
    (Library::RaftRs, "batch_append"),
    (Library::RaftRs, "lazy_commit"),
    (Library::Quorate, "store"),
    (Library::Quorate, "sync"),
    (Library::Quorate, "eager"),
];
/// The column that is compared with the peer's.
const OURS: usize = 3;

/// What stands in the rows, with the bars: of `store` to `plain`, and to `batch_append`.
const ROWS: [(&str, Proposing, [Option<f64>; 2]); 4] = [
    ("single proposals", Proposing::Each(1), [Some(0.5), None]),
    ("16 one by one", Proposing::Each(16), [Some(0.25), Some(0.5)]),
    ("256 one by one", Proposing::Each(256), [None, None]),
    ("16 in one proposal", Proposing::Batch(16), [Some(0.5), None]),
];

/// Instructions per committed entry.
pub(crate) fn instructions(source: Source) {
    per_entry(
        "Instructions per committed entry",
        source,
        Run::instructions,
        0,
        |bars| bars,
    );
}

/// Allocations per committed entry.
pub(crate) fn allocations(source: Source) {
    per_entry(
        "Allocations per committed entry",
        source,
        Run::allocations,
        2,
        |_| [Some(0.5), None],
    );
}

fn per_entry(
    what: &str,
    source: Source,
    measure: fn(&Run) -> f64,
    decimals: usize,
    bars: fn([Option<f64>; 2]) -> [Option<f64>; 2],
) {
    println!("\n{what}, {}:\n", origin(source));
    print!("| |");
    for (library, mode) in COLUMNS {
        print!(" {} |", title(library, mode));
    }
    println!(" store / plain | store / batch_append |");
    println!("|---|{}---|---|", "--:|".repeat(COLUMNS.len()));
    for (name, proposing, row_bars) in ROWS {
        let figures = COLUMNS.map(|(library, mode)| {
            measure(&Run {
                library,
                mode,
                proposing,
                source,
            })
        });
        print!("| {name} |");
        for figure in figures {
            print!(" {figure:.decimals$} |");
        }
        for (peer, bar) in bars(row_bars).into_iter().enumerate() {
            let ratio = figures[OURS] / figures[peer];
            match bar {
                Some(bar) => print!(" {ratio:.2} (bar {bar}: {}) |", verdict(ratio <= bar)),
                None => print!(" {ratio:.2} |"),
            }
        }
        println!();
    }
}

/// Committed entries per second, in runs that take turns.
pub(crate) fn throughput(source: Source) {
    const ROUNDS: usize = 9;
    const BAR: f64 = 2.0;
    println!(
        "\nCommitted entries per second, one thread, best of {ROUNDS} runs that take turns; ratios are medians; {}:\n",
        origin(source)
    );
    println!(
        "| | raft-rs plain | raft-rs batch_append | quorate store | store / plain | store / batch_append |"
    );
    println!("|---|--:|--:|--:|---|---|");
    for (name, proposing, _) in ROWS {
        let runs = [COLUMNS[0], COLUMNS[1], COLUMNS[OURS]].map(|(library, mode)| Run {
            library,
            mode,
            proposing,
            source,
        });
        let entries = if proposing == Proposing::Each(1) {
            32_768
        } else {
            131_072
        };
        let rounds: Vec<[f64; 3]> = (0..ROUNDS)
            .map(|_| runs.map(|run| entries as f64 / run.take(entries).seconds))
            .collect();
        print!("| {name} |");
        for at in 0..runs.len() {
            let best = rounds.iter().map(|round| round[at]).fold(0.0, f64::max);
            print!(" {best:.0} |");
        }
        let median = |peer: usize| {
            let mut ratios: Vec<f64> = rounds.iter().map(|round| round[2] / round[peer]).collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ROUNDS / 2]
        };
        match proposing {
            Proposing::Each(_) => print!(" {:.1} (bar {BAR}: {}) |", median(0), verdict(median(0) >= BAR)),
            Proposing::Batch(_) => print!(" {:.1} |", median(0)),
        }
        println!(" {:.1} |", median(1));
    }
}

fn origin(source: Source) -> &'static str {
    match source {
        Source::Owned => "each command in memory of its own",
        Source::Shared => "commands cut from a shared buffer",
    }
}

fn title(library: Library, mode: &str) -> String {
    match library {
        Library::RaftRs => format!("raft-rs {mode}"),
        Library::Quorate => format!("quorate {mode}"),
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
